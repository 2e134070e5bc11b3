"""The ``dynbert-bench`` command: options to a request, stages to the terminal, the tables to standard output."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import dynbert
from dynbert.command import report_problems
from dynbert.errors import DynbertError
from dynbert.lengths import LengthConfig
from dynbert_bench.options import FULL_PLAN, QUICK_PLAN, Group
from dynbert_export.errors import MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynbert_bench.request import Request

__all__ = ["main"]

_EXTRA = frozenset({"torch", "transformers", "optimum", "onnx", "rich", "pydantic", "openvino", "nncf", "matplotlib"})
"""Packages of the extra whose absence is the caller's to mend."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("build/bench"),
    show_default=True,
    help="Folder for results.json, report.md, plot.png, and what is prepared; that is used again.",
)
@click.option("--quick", is_flag=True, help="A smoke run: tiny models, one input, two rounds; its numbers say nothing.")
@click.option(
    "--without",
    type=click.Choice([group.value for group in Group]),
    multiple=True,
    help="Leave candidates out. Repeatable.",
)
@click.option(
    "--model", metavar="ID|FOLDER", help="A checkpoint to measure; default: random weights of MiniLM's shape."
)
@click.option(
    "--length-config",
    metavar="LIST",
    help=f"Tokens kept after each layer, ours and the peers'; default: {FULL_PLAN.fast}.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Texts that all quantisers calibrate on; default: the built-in ones.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(dynbert.__version__, prog_name="dynbert-bench")
def main(*, debug: bool, **options: Any) -> None:
    """Measure dynbert's INT8 graphs against PyTorch, onnxruntime, optimum-onnx and OpenVINO, on one thread.

    The machine should be quiet: a full run takes about half an hour, of which the first half only prepares.
    """
    with report_problems(debug=debug), _packages_present():
        failures = _run(**options)
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        raise SystemExit(DynbertError.exit_code)


@contextlib.contextmanager
def _packages_present() -> Iterator[None]:
    """Say how to get the packages where there is only the runtime."""
    try:
        yield
    except ModuleNotFoundError as err:
        if err.name is None or err.name.split(".")[0] not in _EXTRA:
            raise
        raise MissingPackageError(
            f"The benchmark's packages must be installed, got no {err.name}. Run: pip install 'dynbert[bench]'"
        ) from err


def _run(**options: Any) -> tuple[str, ...]:
    """Run the benchmark, print the tables, and return what failed."""
    from rich.console import Console

    from dynbert_bench.report import goals_table, times_table
    from dynbert_bench.run import REPORT_FILE, run_benchmark

    request = _make_request(**options)
    console = Console(stderr=True, highlight=False)
    with _TerminalProgress(console) as progress:
        results = run_benchmark(request, progress)
    for task in dict.fromkeys(row.cell.task for row in results.rows):
        click.echo(f"\n{task}, median ms\n")
        click.echo(times_table([row for row in results.rows if row.cell.task == task]))
    click.echo(f"\n{goals_table(results.goals)}\n")
    console.print(f"The whole report: {request.output / REPORT_FILE}", markup=False)
    return results.failures


def _make_request(
    *,
    output: Path,
    quick: bool,
    without: tuple[str, ...],
    model: str | None,
    length_config: str | None,
    calibration: Path | None,
) -> Request:
    from dynbert_bench.request import Request

    return Request(
        output=output,
        plan=QUICK_PLAN if quick else FULL_PLAN,
        model=model,
        lengths=LengthConfig.parse(length_config) if length_config is not None else None,
        calibration=calibration,
        without=frozenset(Group(name) for name in without),
    )


class _TerminalProgress:
    """Shows the stage that runs with its steps, and prints each with its time when it is done."""

    def __init__(self, console: Any) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

        self._console = console
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        # A few pictures a second are enough: drawing takes time from the machine that is being measured.
        self._bars = Progress(
            *columns, console=console, transient=True, refresh_per_second=2, disable=not sys.stderr.isatty()
        )
        self._tasks: list[Any] = []

    def __enter__(self) -> _TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show that a stage runs, and then how long it took."""
        start = time.perf_counter()
        self._tasks.append(self._bars.add_task(name, total=None))
        try:
            yield
        finally:
            self._bars.remove_task(self._tasks.pop())
        self._console.print(f"{name:<60} {time.perf_counter() - start:6.1f} s", markup=False)

    def advance(self, done: int, total: int) -> None:
        """Move the stage's bar."""
        self._bars.update(self._tasks[-1], completed=done, total=total)

    def note(self, message: str) -> None:
        """Print a note."""
        self._console.print(f"Note: {message}", style="yellow", markup=False)
