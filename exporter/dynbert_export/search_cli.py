"""The ``dynbert-search`` command: options to a config, trials to the terminal, the result as a table.

Defaults stand in ``SearchConfig`` alone, as an export's do in ``ExportConfig``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

import dynbert
from dynbert.command import column_options, report_problems
from dynbert_export.errors import check_packages, explain_missing_packages
from dynbert_export.options.vocabularies import LengthOption, QueryOption, SamplerOption, TrainingTaskOption
from dynbert_export.terminal import TerminalProgress, choice_of, terminated_like_interrupted

if TYPE_CHECKING:
    from dynbert_export.options.search import SearchConfig

__all__ = ["main"]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--model", metavar="ID|FOLDER", help="Hub id or folder of a BERT checkpoint with the task's head.")
@click.option("--data", metavar="FILE|NAME", help="Labelled data, as for dynbert-train.")
@click.option("--study", metavar="FILE", help="File that keeps every trial; the same file goes on with a search.")
@click.option("-o", "--output", metavar="RECIPE.yaml", help="Recipe for dynbert-export to write.")
@click.option("--recipe", metavar="FILE", help="YAML file with options; those given here win over it.")
@click.option(
    "--export-recipe",
    metavar="FILE",
    help="An export's recipe: options of the graphs, and profiles to try first; in place of the recipe's export.",
)
@click.option("--task", type=choice_of(TrainingTaskOption), help="What the model does; auto asks its config.")
@click.option("--split", help="Split of a hub data set to search by.")
@column_options()
@click.option("--problem-type", help="Text classification: what a label is, where data and checkpoint do not tell.")
@click.option(
    "--test", metavar="FILE|NAME", help="Data for the final numbers; default: a part of --data is kept aside."
)
@click.option("--test-split", help="Split of a hub data set for the final numbers.")
@click.option("--held-out", type=float, metavar="SHARE", help="Share of --data that is kept aside.")
@click.option("--metric", metavar="NAME", help="What is maximised; default: the task's main metric.")
@click.option(
    "--queries", type=choice_of(QueryOption), help="Retrieval: which graph embeds queries; passages: the candidate."
)
@click.option("--calibration", metavar="FILE", help="Texts to calibrate INT8 on; default: those that are searched by.")
@click.option("--trials", type=int, metavar="N", help="Configs to try in all, earlier runs of the study included.")
@click.option("--minutes", type=float, metavar="M", help="Begin no trial later than this.")
@click.option("--profiles", type=int, metavar="N", help="Profiles to choose along the front.")
@click.option(
    "--keep-quality", type=float, metavar="SHARE", help="Share of the full model's quality that a profile must have."
)
@click.option("--sampler", type=choice_of(SamplerOption), help="What proposes configs.")
@click.option(
    "--lengths", type=choice_of(LengthOption), help="Fractions of an input's length, counts of tokens, or both."
)
@click.option(
    "--leave-out-layers",
    type=int,
    metavar="N",
    help="Layers that a config may leave out at most, 0 for none; default: a third of the model's.",
)
@click.option(
    "--compare-random", is_flag=True, default=None, help="Make as many trials of random search to compare with."
)
@click.option("--max-length", type=int, metavar="TOKENS", help="Longest input; default: what the checkpoint says.")
@click.option("--threads", type=int, metavar="N", help="Threads that graphs are judged and timed on; default: 1.")
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of a hub id.")
@click.option("--overwrite", is_flag=True, default=None, help="Replace a recipe at the output's place.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(dynbert.__version__, prog_name="dynbert-search")
def main(*, recipe: str | None, export_recipe: str | None, quiet: bool, debug: bool, **options: Any) -> None:
    """Find the best length configs of a checkpoint on this machine and your data, as a recipe for dynbert-export.

    Quality is measured on the data, time is predicted by a model of this machine that is fitted first. A search that
    was interrupted goes on by the same command; a second one with the same --study shares the work.
    """
    overrides = {name: value for name, value in options.items() if value not in {None, ()}}
    overrides |= {name: list(value) for name, value in overrides.items() if isinstance(value, tuple)}
    with report_problems(debug=debug), terminated_like_interrupted():
        _run(_read_config(recipe, export_recipe, overrides), quiet=quiet)


def _read_config(recipe: str | None, export_recipe: str | None, overrides: dict[str, Any]) -> SearchConfig:
    """Return the checked options; without the packages, say how to get them."""
    with explain_missing_packages("search"):
        from dynbert_export.options.recipe import load_recipe
        from dynbert_export.options.search import make_search_config
    from pathlib import Path

    own, export = (None if each is None else load_recipe(Path(each)) for each in (recipe, export_recipe))
    return make_search_config(own, overrides, export=export)


def _run(config: SearchConfig, *, quiet: bool) -> None:
    with explain_missing_packages("search"):
        check_packages("search")
        from dynbert_export.searching.run import search_lengths

    if quiet:
        search_lengths(config)
        return
    from rich.console import Console

    from dynbert_export.searching.table import list_remarks, report_table

    terminal = Console(stderr=True, highlight=False)
    result = search_lengths(config, progress=TerminalProgress(terminal))
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    out.print(report_table(result.report))
    for line in list_remarks(result.report):
        out.print(line, markup=False)
    done = f"{result.recipe}: a recipe for dynbert-export; .json and .png beside it"
    terminal.print(done, markup=False, soft_wrap=True)
