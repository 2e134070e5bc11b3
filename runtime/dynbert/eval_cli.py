"""The command ``dynbert eval``: how well the graphs of a bundle answer labelled data, and how fast."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynbert.command import column_options
from dynbert.manifest import Precision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynbert.model import DynamicBert
    from dynbert.scoring.bundle_evaluation import Candidate, EvaluationProgress

__all__ = ["evaluate_command"]


@click.command("eval")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="FILE|SET", help="Labelled data: a file, or a set of the hub.")
@click.option("--split", default="validation", show_default=True, help="Which part of a set of the hub.")
@click.option("--profile", "profiles", multiple=True, help="Name of a profile; repeatable.  [default: all]")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice([item.value for item in Precision]),
    multiple=True,
    help="Repeatable.  [default: all that the bundle has]",
)
@click.option("--query-profile", help="Retrieval: the profile of the queries.  [default: that of the passages]")
@column_options()
@click.option("--truncate", is_flag=True, help="Cut texts that are too long; else they are refused.")
@click.option(
    "--timed-inputs",
    type=click.IntRange(min=0),
    default=60,
    show_default=True,
    help="How many inputs to time, one by one; 0 for none.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads that compute.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate_command(
    bundle: Path,
    *,
    data: str,
    split: str,
    profiles: tuple[str, ...],
    precisions: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Score the answers of every profile and precision to labelled data, with intervals, and time them.

    All are compared with the fp32 graph that drops nothing. What a file holds: the README of the runtime.
    """
    from dynbert.scoring.bundle_evaluation import EvaluationOptions, evaluate_bundle, list_candidates
    from dynbert.scoring.evaluation_report import evaluation_record, evaluation_text
    from dynbert.scoring.examples import Columns
    from dynbert.scoring.labelled import load_data

    models = _load(bundle, [Precision(name) for name in precisions], threads=options["threads"])
    candidates, _ = list_candidates(models, profiles)
    reference = _find_reference(bundle, models, threads=options["threads"])
    model = reference.model.manifest.model
    labelled = load_data(
        data,
        model.task,
        split=split,
        columns=Columns(
            options["text_column"], options["pair_column"], options["label_column"], options["choice_columns"]
        ),
        label_names=model.labels,
        problem_type=model.problem_type,
    )
    wanted = EvaluationOptions(
        options["query_profile"], options["truncate"], options["timed_inputs"], options["threads"]
    )
    with _progress_bar() as progress:
        found = evaluate_bundle(candidates, reference, labelled, wanted, progress)
    click.echo(json.dumps(evaluation_record(found), indent=2) if as_json else evaluation_text(found))


def _load(bundle: Path, precisions: list[Precision], *, threads: int) -> dict[Precision, DynamicBert]:
    """Return the bundle, loaded with each precision that is asked for, or that it has."""
    from dynbert.errors import ProfileError
    from dynbert.model import load

    first = load(bundle, threads)
    there = {graph.precision for graph in first.manifest.graphs}
    missing = [precision.value for precision in precisions if precision not in there]
    if missing:
        known = ", ".join(sorted(precision.value for precision in there))
        raise ProfileError(f"--precision must be one that the bundle has ({known}), got {missing[0]}.")
    wanted = [precision for precision in (Precision.FP32, Precision.INT8) if precision in (precisions or there)]
    return {precision: load(bundle, threads, precision=precision, checksums=False) for precision in wanted}


def _find_reference(bundle: Path, models: dict[Precision, DynamicBert], *, threads: int) -> Candidate:
    """Return the fp32 graph that drops nothing; the INT8 one where the bundle has no other."""
    from dynbert.manifest import FULL
    from dynbert.scoring.bundle_evaluation import list_candidates

    manifest = next(iter(models.values())).manifest
    there = {graph.precision for graph in manifest.graphs if graph.profile == FULL}
    precision = Precision.FP32 if Precision.FP32 in there else Precision.INT8
    if precision not in models:
        models = _load(bundle, [precision], threads=threads)
    [reference], _ = list_candidates({precision: models[precision]}, [FULL])
    return reference


class _Bar:
    """Steps on standard error."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def start(self, steps: int) -> None:
        self._bar.length = steps

    def advance(self, steps: int) -> None:
        self._bar.update(steps)


@contextmanager
def _progress_bar() -> Iterator[EvaluationProgress | None]:
    """Show a bar where somebody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label="evaluate", file=sys.stderr, show_eta=True) as bar:
        yield _Bar(bar)
