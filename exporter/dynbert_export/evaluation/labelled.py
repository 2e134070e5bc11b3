"""Evaluation of a staged bundle's graphs on labelled data, against the fp32 graph that drops nothing.

That graph is the measure whether it is published or not: where it is not, it lies in a folder of its own.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec

from dynbert.manifest import FULL, Precision, file_entry
from dynbert.model import DynamicBert
from dynbert.packages import import_extra
from dynbert.scoring.bundle_evaluation import EvaluationOptions, evaluate_bundle, list_candidates
from dynbert.scoring.examples import Columns
from dynbert.scoring.labelled import load_data
from dynbert.tokenization import TOKENIZER_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from dynbert.manifest import Manifest
    from dynbert.scoring.bundle_evaluation import BundleEvaluation
    from dynbert.scoring.examples import LabelledData
    from dynbert_export.checkpoint.load import Checkpoint
    from dynbert_export.options.config import ExportConfig

__all__ = ["add_evaluations", "evaluate_graphs", "load_evaluation_data"]


def load_evaluation_data(config: ExportConfig, checkpoint: Checkpoint) -> LabelledData | None:
    """Read the labelled data of an export.

    Args:
        config: The export's options.
        checkpoint: What is exported.

    Returns:
        The data; None where none is asked for.

    Raises:
        DataError: If it cannot be used.
        InputError: If there is no labelled data for the task.
        MissingPackageError: If the extra ``eval`` is not installed.
    """
    if config.evaluate is None:
        return None
    import_extra("scipy.stats", extra="eval", purpose="evaluate graphs")
    return load_data(
        config.evaluate,
        checkpoint.task,
        split=config.evaluate_split,
        columns=Columns(config.text_column, config.pair_column, config.label_column, config.choice_columns),
        label_names=checkpoint.labels,
        problem_type=checkpoint.problem_type,
    )


def evaluate_graphs(
    bundle: Path, manifest: Manifest, references: tuple[Path, Manifest], data: LabelledData, query_profile: str | None
) -> tuple[BundleEvaluation, tuple[str, ...]]:
    """Evaluate the graphs of a staged bundle that this machine computes exactly.

    Args:
        bundle: The folder.
        manifest: Its manifest, maybe still without files.
        references: Folder and manifest of the fp32 graphs, published or not.
        data: What to evaluate on; texts that are too long are cut.
        query_profile: For retrieval: the profile that embeds the queries.

    Returns:
        What was found, and a note on each graph that was left out.

    Raises:
        InputError: If the data is not for the model.
        BundleError: If a graph turns out not to work.
    """
    options = EvaluationOptions(query_profile=query_profile, truncate=True)
    there = {graph.precision for graph in manifest.graphs}
    candidates, notes = list_candidates(
        {precision: _open(bundle, manifest, precision, options) for precision in sorted(there)}, exact_only=True
    )
    folder, fp32 = references
    if folder != bundle:
        shutil.copyfile(bundle / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    [reference], _ = list_candidates({Precision.FP32: _open(folder, fp32, Precision.FP32, options)}, [FULL])
    return evaluate_bundle(candidates, reference, data, options), notes


def add_evaluations(manifest: Manifest, found: BundleEvaluation) -> Manifest:
    """Return a manifest whose graphs have what was found of them.

    Args:
        manifest: The manifest.
        found: Of its graphs.

    Returns:
        The manifest, with one evaluation more for each graph that has one.
    """
    by_file = {each.candidate.graph.file: each.evaluation for each in found.graphs}
    graphs = tuple(
        msgspec.structs.replace(graph, evaluations=(*graph.evaluations, by_file[graph.file]))
        if graph.file in by_file
        else graph
        for graph in manifest.graphs
    )
    return msgspec.structs.replace(manifest, graphs=graphs)


def _open(bundle: Path, manifest: Manifest, precision: Precision, options: EvaluationOptions) -> DynamicBert:
    with_tokenizer = msgspec.structs.replace(manifest, files=(file_entry(bundle / TOKENIZER_FILE, bundle),))
    return DynamicBert(bundle, with_tokenizer, threads=options.threads, precision=precision)
