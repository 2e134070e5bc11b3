"""The ``dynbert-export`` command: options to a config, stages to the terminal, the result as a table.

Defaults stand in ``ExportConfig`` alone: an option that is not given is not passed on, so that a recipe's value
or that default applies.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

import dynbert
from dynbert.command import column_options, report_problems
from dynbert.manifest import Embeddings
from dynbert_export.errors import explain_missing_packages
from dynbert_export.options.profiles import LayersOption
from dynbert_export.options.vocabularies import (
    CalibrationMethod,
    PrecisionOption,
    QuantizeOption,
    TargetOption,
    TaskOption,
)
from dynbert_export.terminal import TerminalProgress, choice_of, terminated_like_interrupted

if TYPE_CHECKING:
    from dynbert_export.options.config import ExportConfig

__all__ = ["main"]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--model", metavar="ID|FOLDER", help="Hub id or folder of a BERT checkpoint.")
@click.option("-o", "--output", metavar="FOLDER", help="Folder of the bundle to write.")
@click.option(
    "--length-config",
    "profiles",
    metavar="[NAME=]LIST",
    multiple=True,
    help="A profile: tokens kept after each layer, counts (fast=315,251,242,159,142,33) or fractions of the input "
    "(balanced=0.9,0.8,0.7,0.6,0.5,0.4). Repeatable.",
)
@click.option(
    "--layer-config",
    "layer_configs",
    metavar="[NAME=]LIST",
    multiple=True,
    help="Layers that run in the profile of that name, counted from 0, the others left out (fast=0,2,4). Without a "
    "--length-config of its name the profile drops no tokens. Repeatable.",
)
@click.option("--recipe", metavar="FILE", help="YAML file with options; those given here win over it.")
@click.option(
    "--task",
    type=choice_of(TaskOption),
    help="What the model computes; auto asks its config.",
)
@click.option(
    "--embeddings",
    type=choice_of(Embeddings),
    help="What graphs of feature-extraction give: one vector a text, or one a token, which optimum and "
    "sentence-transformers ask for.",
)
@click.option(
    "--quantize",
    type=choice_of(QuantizeOption),
    help="INT8 with calibrated ranges, with ranges found at run time, or no INT8.",
)
@click.option(
    "--calibration",
    metavar="FILE",
    help="Texts to calibrate on: txt, csv, tsv, jsonl or SQuAD json. Without it: general English sentences.",
)
@click.option(
    "--calibration-method",
    type=choice_of(CalibrationMethod),
    help="How ranges follow from the calibration texts; auto measures which keeps the answers.",
)
@click.option("--calibration-samples", type=int, metavar="N", help="Most texts to calibrate on.")
@click.option(
    "--evaluate",
    metavar="FILE|SET",
    help="Labelled data to evaluate every graph on, for card and manifest (extra eval): a file, or a set of the hub.",
)
@click.option("--evaluate-split", metavar="NAME", help="--evaluate: which part of a set of the hub.")
@column_options(of="--evaluate")
@click.option("--query-profile", metavar="NAME", help="--evaluate: the profile that embeds the queries of a retrieval.")
@click.option(
    "--target",
    "targets",
    type=choice_of(TargetOption),
    multiple=True,
    help="Instruction set that INT8 ranges are chosen for; auto writes for VNNI and AMX. Repeatable: the runtime then "
    "takes what suits its CPU.",
)
@click.option("--precision", type=choice_of(PrecisionOption), help="Which graphs the bundle holds.")
@click.option("--max-length", type=int, metavar="TOKENS", help="Longest input; default: what the checkpoint says.")
@click.option("--opset", type=int, help="Version of the ONNX operators.")
@click.option("--threads", type=int, metavar="N", help="Threads of the export itself; default: the usable cores.")
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of a hub id.")
@click.option("--overwrite", is_flag=True, default=None, help="Replace an existing bundle.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(dynbert.__version__, prog_name="dynbert-export")
def main(
    *,
    recipe: str | None,
    quiet: bool,
    debug: bool,
    profiles: tuple[str, ...],
    layer_configs: tuple[str, ...],
    targets: tuple[str, ...],
    **options: Any,
) -> None:
    """Export a BERT checkpoint to a bundle of ONNX graphs, one per profile, for the dynbert runtime.

    The profile "full" (drops nothing) and the graph "anytime" (takes the lengths as an input) are always made.
    """
    overrides = {name: value for name, value in options.items() if value not in {None, ()}}
    if profiles or layer_configs:
        overrides["profiles"] = [*profiles, *map(LayersOption, layer_configs)]
    if targets:
        overrides["target"] = list(targets)
    with report_problems(debug=debug), terminated_like_interrupted():
        config = _read_config(recipe, overrides)
        _run(config, quiet=quiet)


def _read_config(recipe: str | None, overrides: dict[str, Any]) -> ExportConfig:
    """Return the checked options; without the export extra, say how to get it."""
    with explain_missing_packages("export"):
        from dynbert_export.options.config import make_config
        from dynbert_export.options.recipe import load_recipe
    from pathlib import Path

    return make_config(load_recipe(Path(recipe)) if recipe is not None else None, overrides)


def _run(config: ExportConfig, *, quiet: bool) -> None:
    from dynbert_export.pipeline import export_bundle

    if quiet:
        export_bundle(config)
        return
    from rich.console import Console

    from dynbert.scoring.evaluation_report import evaluation_text
    from dynbert_export.report.summary import summary_table

    terminal = Console(stderr=True, highlight=False)
    result = export_bundle(config, progress=TerminalProgress(terminal))
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    out.print(summary_table(result.manifest, result.baseline))
    if result.evaluation is not None:
        out.print(f"\n{evaluation_text(result.evaluation)}", markup=False)
    size = sum(entry.bytes for entry in result.manifest.entries)
    terminal.print(f"{result.bundle}: {len(result.manifest.entries) + 1} files, {size / 1e6:.1f} MB")
