"""The recipe that a search writes: an export with the profiles that were found, each with where it came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import dynbert
from dynbert.cpu import int8_target
from dynbert.manifest import FULL, Task
from dynbert.scoring.labelled import is_data_file
from dynbert_export.options.vocabularies import QueryOption
from dynbert_export.searching.results import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynbert_export.options.search import SearchConfig
    from dynbert_export.searching.results import FoundProfile, GraphResult, SearchReport

__all__ = ["write_recipe"]

_OF_PAIRS = ("spearman", "pearson")
"""Metrics of pairs with scores, which have no queries."""


def write_recipe(report: SearchReport, config: SearchConfig, calibration: Path) -> str:
    """Return a recipe for ``dynbert-export``.

    Args:
        report: What was found.
        config: The options of the search; the recipe has the export's among them.
        calibration: Texts that the working bundle was calibrated on.

    Returns:
        YAML.
    """
    folder = config.output.absolute().parent
    options: dict[str, Any] = {
        "model": _name_place(config.model, folder) if Path(config.model).is_dir() else config.model,
        "revision": config.revision,
        "task": report.task,
        "max_length": config.max_length,
        "calibration": _name_place(str(calibration), folder),
        **_evaluation(config, report, folder),
        **config.list_export_options(int8_target()),
    }
    head = {name: value for name, value in options.items() if value is not None}
    return "".join((*_comment(report), yaml.safe_dump(head, sort_keys=False, allow_unicode=True), *_profiles(report)))


def _evaluation(config: SearchConfig, report: SearchReport, folder: Path) -> dict[str, Any]:
    """Return the options by which the export evaluates its graphs on the data kept aside, where that has a name."""
    if config.test is None:
        return {}
    is_file = is_data_file(config.test)
    is_retrieval = report.task == Task.FEATURE_EXTRACTION.value and config.queries is QueryOption.FULL
    return {
        "evaluate": _name_place(config.test, folder) if is_file else config.test,
        "evaluate_split": None if is_file else config.test_split,
        "text_column": config.text_column,
        "pair_column": config.pair_column,
        "label_column": config.label_column,
        "choice_columns": list(config.choice_columns) or None,
        "query_profile": FULL if is_retrieval and report.metric not in _OF_PAIRS else None,
    }


def _name_place(path: str, folder: Path) -> str:
    """Return a path as a recipe in a folder names it: from there on where it lies inside, else from the root on."""
    place = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow a link)
    return f"./{place.relative_to(folder)}" if place.is_relative_to(folder) else str(place)


def _comment(report: SearchReport) -> Iterator[str]:
    finished = sum(trial.quality is not None for trial in report.trials)
    where = f"{report.processor}, threads: {report.threads}, {report.precision}"
    lines = (
        f"Found by dynbert-search {dynbert.__version__}: {len(report.trials)} trials, {finished} judged to the end.",
        f"Times: ms of one input of the data on {where}.",
        f"Quality: {report.metric} of {report.aside}, with its 95 % interval.",
        *(f"{graph.name}: {_say(graph)}" for graph in (*report.find(Role.REFERENCE), *report.find(Role.FULL))),
    )
    yield from (f"# {' '.join(line.split())}\n" for line in lines)  # a file's name may have a line break


def _profiles(report: SearchReport) -> Iterator[str]:
    [full] = report.find(Role.FULL)
    yield "profiles:\n"
    for graph in report.find(Role.PROFILE):
        faster = full.measured_ms / graph.measured_ms
        yield f"  # Trial {graph.trial}: {_say(graph)}; {faster:.2f} times as fast as full\n"
        yield f"  {graph.name}: {_write_profile(report.profiles[graph.name])}\n"


def _write_profile(profile: FoundProfile) -> str:
    """Return a profile as YAML of one line: a list of lengths, or a mapping where layers are left out."""
    values = {name: list(value) for name, value in vars(profile).items() if value is not None}
    if profile.layer_config is None:
        return str(values["length_config"])
    return f"{{{', '.join(f'{name}: {value}' for name, value in values.items())}}}"


def _say(graph: GraphResult) -> str:
    metric = graph.metrics[0]
    return f"{graph.measured_ms:.2f} ms, {metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
