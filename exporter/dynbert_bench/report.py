"""The report for people, in Markdown, made from the results alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from dynbert_bench.competitors import BASE_LINE, own_name
from dynbert_bench.options import Cell, longest_cell
from dynbert_bench.schedule import LEAST_COSINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert_bench.results import GoalResult, Results, Row, Trial

__all__ = ["goals_table", "times_table", "write_markdown"]

_MISSING = "-"


def write_markdown(results: Results) -> str:
    """Return the whole report.

    Args:
        results: Of a run.

    Returns:
        Markdown.
    """
    parts = ["# dynbert-bench", _introduction(results)]
    if results.is_quick:
        parts.append("**A smoke run of tiny models: it shows that everything works, its numbers say nothing.**")
    parts += ["## Targets", goals_table(results.goals)]
    for task in dict.fromkeys(row.cell.task for row in results.rows):
        rows = [row for row in results.rows if row.cell.task == task]
        parts += [f"## {task}: median ms of one call", times_table(rows), _legend(results)]
    parts += ["## The floor", _floor_section(results), "## Settings", _settings_section(results)]
    if results.failures or results.left_out or results.notes:
        left_out = [f"Left out on request: {name}." for name in results.left_out]
        parts += ["## Notes", "\n".join(f"- {line}" for line in (*results.failures, *left_out, *results.notes))]
    parts += ["## Environment", _environment_section(results)]
    return "\n\n".join(parts) + "\n"


def goals_table(goals: Sequence[GoalResult]) -> str:
    """Return the goals with what was measured.

    Args:
        goals: Of a run.

    Returns:
        A Markdown table.
    """
    body = [
        [
            goal.name,
            goal.rule,
            _format(goal.ratio, "{:.2f}x"),
            _MISSING if goal.lowest is None else f"{goal.lowest:.2f} to {goal.highest:.2f}",
            f"**{goal.verdict.value}**",
        ]
        for goal in goals
    ]
    return _table(["target", "rule", "measured", "single rounds", "verdict"], body)


def times_table(rows: Sequence[Row]) -> str:
    """Return a task's competitors by cells.

    Args:
        rows: Of one task.

    Returns:
        A Markdown table; memory, agreement and speed are those of the longest input of batch 1.
    """
    cells = list(dict.fromkeys(row.cell for row in rows))
    longest = longest_cell(cells)
    base = _find(rows, BASE_LINE, longest)
    base_ms = base.median_ms if base is not None else None
    speed = [f"speed at {longest.size}"] if base_ms is not None else []
    headers = ["candidate", *(cell.size for cell in cells), *speed, "PSS MB", "cosine", "largest diff."]
    body = []
    for name in dict.fromkeys(row.competitor for row in rows):
        own = [row for row in rows if row.competitor == name]
        times = [_time(_find(own, name, cell)) for cell in cells]
        body.append([own[0].label, *times, *_details(_find(own, name, longest), base_ms)])
    return _table(headers, body)


def _details(row: Row | None, base_ms: float | None) -> list[str]:
    """Return what the table says of one cell beside the time: speed where there is a base line, memory, agreement."""
    if row is None:
        return [_MISSING] * (3 if base_ms is None else 4)
    speed = base_ms / row.median_ms if base_ms is not None and row.median_ms is not None else None
    return [
        *([] if base_ms is None else [_format(speed, "{:.2f}x")]),
        _format(row.pss_bytes / 1e6 if row.pss_bytes is not None else None, "{:.0f}"),
        _format(row.cosine, "{:.4f}"),
        _format(row.max_abs_difference, "{:.3g}"),
    ]


def _introduction(results: Results) -> str:
    model, base, environment = results.model, results.base_line, results.environment
    where = f"core {environment.core}" if environment.core is not None else "any core"
    lengths = "; ".join(f"{name} {config}" for name, config in results.lengths.items())
    return (
        f"{model.name} ({model.layers} layers, hidden {model.hidden}), lengths: {lengths}. Base line {base.name}. "
        f"{environment.cpu} ({environment.target}), one thread, every candidate in a process of its own on {where}, "
        f"{results.rounds} rounds of bursts of {results.burst_seconds:g} s in turns, {environment.date}."
    )


def _legend(results: Results) -> str:
    return (
        f"Speed is relative to {results.base_line.name} fp32 on onnxruntime. PSS is the memory of the process. Cosine "
        "and largest difference compare the outputs with PyTorch's fp32 outputs for the same lengths; * marks a time "
        f"whose cosine is below {LEAST_COSINE:g}."
    )


def _floor_section(results: Results) -> str:
    rates = [
        [item.name, _format(item.median_ms, "{:.3f}"), _format(item.gmacs_per_second, "{:.1f}")]
        for item in results.products
    ]
    floors = []
    for item in results.floors:
        # Floors are those of one text, and the first task of the rows is theirs.
        found = _find(results.rows, own_name(item.profile), Cell(results.rows[0].cell.task, item.tokens))
        ratio = found.median_ms / item.ms if found is not None and found.median_ms is not None else None
        counts = [f"{item.int8_macs / 1e9:.3f}", f"{item.fp32_macs / 1e9:.3f}"]
        times = [f"{item.ms:.2f}", f"{item.int8_scores_ms:.2f}"]
        floors.append([item.profile, item.tokens, *counts, *times, _format(ratio, "{:.2f}x")])
    return "\n\n".join(
        [
            "Matrix products of this model's shapes through onnxruntime; the best of each precision is the peak.",
            _table(["product", "ms", "GMAC/s"], rates),
            _table(
                ["profile", "tokens", "INT8 GMAC", "fp32 GMAC", "floor ms", "with INT8 scores", "dynbert by the floor"],
                floors,
            ),
            "The floor counts attention as fp32, as the target does; dynbert's scores are INT8 where answers allow.",
        ]
    )


def _settings_section(results: Results) -> str:
    """Say which settings won where, for all competitors that had a choice."""
    body = []
    for row in results.rows:
        if len(row.trials) > 1 or row.failure:
            body += [[row.label, f"{row.cell.task} {row.cell.size}", *_trial_cells(trial)] for trial in row.trials]
    fixed = {row.label: row.trials[0].settings for row in results.rows if len(row.trials) == 1 and not row.failure}
    lines = [f"- {label}: {settings}" for label, settings in fixed.items()]
    table = _table(["candidate", "input", "settings tried", "ms", "cosine", ""], body)
    details = f"<details><summary>Tried, and the best taken, in every cell</summary>\n\n{table}\n\n</details>"
    return "\n\n".join(["\n".join(lines), details])


def _trial_cells(trial: Trial) -> list[str]:
    remark = "taken" if trial.is_chosen else "failed" if trial.failure else ""
    return [trial.settings, _format(trial.median_ms, "{:.2f}"), _format(trial.cosine, "{:.4f}"), remark]


def _environment_section(results: Results) -> str:
    environment = results.environment
    load = " ".join(f"{value:.2f}" for value in environment.load_average) or "unknown"
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return "\n".join(
        [
            f"- {environment.system}, Python {environment.python}, {environment.cores} usable cores",
            f"- instructions: {', '.join(environment.features)}",
            f"- frequency governor: {environment.governor or 'not shown by this system'}",
            f"- load average at the start: {load}",
            f"- {versions}; source {environment.code}",
        ]
    )


def _find(rows: Sequence[Row], competitor: str, cell: Cell) -> Row | None:
    return next((row for row in rows if row.competitor == competitor and row.cell == cell), None)


def _time(row: Row | None) -> str:
    if row is None:
        return _MISSING
    if row.median_ms is None:
        return "failed"
    is_alike = row.cosine is not None and row.cosine >= LEAST_COSINE
    return f"{row.median_ms:.2f}{'' if is_alike else ' *'}"


def _format(value: float | None, form: str) -> str:
    return _MISSING if value is None else form.format(value)


def _table(headers: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    alignment = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(
        body, headers=headers, tablefmt="github", disable_numparse=True, colalign=alignment if body else None
    )
