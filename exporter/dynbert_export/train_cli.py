"""The ``dynbert-train`` command: options to a config, steps to the terminal, the result as a table.

Defaults stand in ``TrainingConfig`` alone, as an export's do in ``ExportConfig``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

import dynbert
from dynbert.command import column_options, report_problems
from dynbert_export.errors import check_packages, explain_missing_packages
from dynbert_export.options.vocabularies import MixedPrecision, TrainingTaskOption
from dynbert_export.terminal import TerminalProgress, choice_of, terminated_like_interrupted

if TYPE_CHECKING:
    from dynbert_export.options.training import TrainingConfig
    from dynbert_export.training.run import TrainingResult

__all__ = ["main"]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--model", metavar="ID|FOLDER", help="Hub id or folder of a BERT checkpoint.")
@click.option(
    "--data", metavar="FILE|NAME", help="Labelled data: csv, tsv, jsonl, parquet, SQuAD json, or a hub data set."
)
@click.option("-o", "--output", metavar="FOLDER", help="Folder of the trained checkpoint to write.")
@click.option("--recipe", metavar="FILE", help="YAML file with options; those given here win over it.")
@click.option(
    "--task", type=choice_of(TrainingTaskOption), help="What to train for; auto asks the checkpoint's config."
)
@click.option("--eval-data", metavar="FILE|NAME", help="Data to judge by; default: a part of --data is held out.")
@click.option("--split", help="Split of a hub data set to train on.")
@click.option("--eval-split", help="Split of a hub data set to judge by.")
@column_options()
@click.option("--problem-type", help="Text classification: what a label is, where data and checkpoint do not tell.")
@click.option(
    "--length-config",
    "profiles",
    metavar="[NAME=]LIST",
    multiple=True,
    help="Lengths to judge the model at, as for dynbert-export: which state is best, not what is trained. Repeatable.",
)
@click.option("--ratio-bound", type=float, help="A layer drops at most this share of the tokens that enter it.")
@click.option("--least-lengths", metavar="LIST", help="Fractions: the least that is kept, in place of a ratio bound.")
@click.option("--random-models", type=int, metavar="N", help="Random lengths a step, beside the full and the smallest.")
@click.option("--layer-dropout", type=float, help="Probability with which a random model leaves out a layer.")
@click.option("--plain-epochs", type=float, metavar="N", help="Epochs at the beginning that drop nothing.")
@click.option("--temperature", type=float, help="Of the distributions that are distilled.")
@click.option("--hidden-weight", type=float, help="Of the distance between token states, beside that of answers.")
@click.option("--dropout", type=float, help="While training; default: the checkpoint's, none for embeddings.")
@click.option("--teacher", metavar="ID|FOLDER", help="A checkpoint that teaches the full model.")
@click.option("--contrastive-weight", type=float, help="Embeddings of pairs: of finding each text's own partner.")
@click.option("--epochs", type=float)
@click.option("--max-steps", type=int, metavar="N", help="End after so many steps.")
@click.option("--batch-size", type=int, metavar="N")
@click.option("--gradient-accumulation", type=int, metavar="N", help="Batches a step.")
@click.option("--learning-rate", type=float)
@click.option("--warmup-ratio", type=float)
@click.option("--weight-decay", type=float)
@click.option("--mixed-precision", type=choice_of(MixedPrecision))
@click.option("--eval-every", type=int, metavar="STEPS", help="Steps between evaluations; default: an epoch.")
@click.option("--early-stopping", type=int, metavar="N", help="Stop after so many evaluations that are no better.")
@click.option("--report-to", multiple=True, metavar="NAME", help="A tracker that transformers knows. Repeatable.")
@click.option(
    "--layer",
    "layers",
    type=int,
    multiple=True,
    metavar="INDEX",
    help="Keep this layer and those named so. Repeatable.",
)
@click.option("--max-length", type=int, metavar="TOKENS", help="Longest input; default: what the checkpoint says.")
@click.option("--threads", type=int, metavar="N", help="Threads of PyTorch; default: the usable cores.")
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of a hub id.")
@click.option("--resume", is_flag=True, default=None, help="Go on with an interrupted training of the same output.")
@click.option("--overwrite", is_flag=True, default=None, help="Replace a trained checkpoint; begin anew.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(dynbert.__version__, prog_name="dynbert-train")
def main(*, recipe: str | None, quiet: bool, debug: bool, **options: Any) -> None:
    """Train a BERT checkpoint so that its profiles keep their quality when tokens are dropped.

    Every step trains the full model on the labels, and smaller ones on what the full one answers (LengthDrop). What is
    left is a checkpoint for dynbert-export. An interrupted training goes on with --resume.
    """
    overrides = {name: value for name, value in options.items() if value not in {None, ()}}
    overrides |= {name: list(value) for name, value in overrides.items() if isinstance(value, tuple)}
    with report_problems(debug=debug), terminated_like_interrupted():
        _run(_read_config(recipe, overrides), quiet=quiet)


def _read_config(recipe: str | None, overrides: dict[str, Any]) -> TrainingConfig:
    """Return the checked options; without the packages, say how to get them."""
    with explain_missing_packages("train"):
        from dynbert_export.options.recipe import load_recipe
        from dynbert_export.options.training import make_training_config
    from pathlib import Path

    return make_training_config(load_recipe(Path(recipe)) if recipe is not None else None, overrides)


def _run(config: TrainingConfig, *, quiet: bool) -> None:
    with explain_missing_packages("train"):
        check_packages("train")
        from dynbert_export.training.run import train_checkpoint
        from dynbert_export.training.workers import is_writer

    if quiet or not is_writer():
        train_checkpoint(config)
        return
    from rich.console import Console

    result = train_checkpoint(config, progress=TerminalProgress(Console(stderr=True, highlight=False)))
    click.echo(_format_result(result))
    click.echo(f"{result.checkpoint}: a checkpoint for dynbert-export; training.png shows the curve", file=sys.stderr)


def _format_result(result: TrainingResult) -> str:
    """Return how good the model is at each profile, before and after."""
    from dynbert.tables import format_table

    rows = [
        (name, f"{result.before[name]:.4f}" if name in result.before else "", f"{score:.4f}")
        for name, score in result.scores.items()
    ]
    return format_table(rows, ["profile", f"{result.metric} before", "after"])


if __name__ == "__main__":  # for torchrun -m
    main()
