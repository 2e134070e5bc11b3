"""The ``dynbert`` command: what is in a bundle, what it answers, whether it works here.

Commands parse, call the library and print. Exit codes: 0 done, 1 the bundle does not work, 2 a wrong option or
input (``errors.py``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynbert.command import report_problems
from dynbert.errors import DynbertError, InputError
from dynbert.eval_cli import evaluate_command
from dynbert.graph_rows import size_text
from dynbert.manifest import Precision
from dynbert.tasks.arguments import ARGUMENTS
from dynbert.tasks.registry import task_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dynbert.tasks.arguments import Argument
    from dynbert.tasks.base import TaskSpec

__all__ = ["main"]

_STDIN = "-"
_LINES_NAMED = 5


class _Group(click.Group):
    """Turns our errors and warnings into lines for people; with ``--debug`` errors keep their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        with report_problems(debug=ctx.params["debug"]):
            return super().invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="dynbert")
def main(*, debug: bool) -> None:
    """Run length-adaptive BERT bundles on onnxruntime."""
    del debug  # read by _Group.invoke


main.add_command(evaluate_command)
_bundle = click.argument("bundle", type=click.Path(path_type=Path))
_threads = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads that compute. Default: the cores that may be used."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@main.command()
@_bundle
@_json
def info(bundle: Path, *, as_json: bool) -> None:
    """Show a bundle's model and profiles, and this machine's CPU."""
    from dynbert import reports
    from dynbert.manifest import check_files, read_manifest

    manifest = read_manifest(bundle)
    check_files(bundle, manifest.entries, checksums=False)  # dynbert verify reads every byte
    click.echo(json.dumps(reports.info_record(manifest), indent=2) if as_json else reports.info_text(manifest))


def _call_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for every argument of a model's call."""
    for name, argument in reversed(list(ARGUMENTS.items())):  # click lists first what was added last
        command = click.option(
            _option(name),
            name,
            type=_option_type(argument),
            is_flag=argument.is_flag or None,  # False would make the option's value optional
            multiple=argument.is_repeatable,
            help=_option_help(argument),
        )(command)
    return command


def _option(name: str) -> str:
    return ARGUMENTS[name].option or f"--{name.replace('_', '-')}"


def _option_type(argument: Argument) -> click.ParamType[Any] | None:
    if argument.vocabulary is not None:
        return click.Choice([item.value for item in argument.vocabulary])
    return None if argument.least is None else click.IntRange(min=argument.least)


def _option_help(argument: Argument) -> str:
    if argument.default is None or argument.is_flag:
        return argument.option_help
    return f"{argument.option_help}  [default: {argument.default}]"


@main.command()
@_bundle
@click.option("--profile", help="Name of a profile.  [default: full]")
@click.option("--length-config", metavar="LIST", help="In place of a profile: one number a layer, e.g. 0.9,0.7,0.5.")
@click.option(
    "--precision",
    type=click.Choice([item.value for item in Precision]),
    help="Default: int8 where the bundle has it for this CPU.",
)
@_threads
@_call_options
@_json
def run(
    bundle: Path,
    *,
    profile: str | None,
    length_config: str | None,
    precision: str | None,
    threads: int | None,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Read texts and answer by the bundle's task; which options that takes, a wrong one tells.

    Without --text (or --context) the input is read from standard input where that is not a terminal.
    """
    from dynbert.model import load

    model = load(bundle, threads, precision=precision)
    spec = task_spec(model.task)
    given = _read_arguments(arguments, spec)
    result = model(**given, profile=profile, length_config=length_config)
    click.echo(json.dumps(spec.to_json(given, result), ensure_ascii=False) if as_json else spec.to_text(given, result))


def _list_given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if ARGUMENTS[name].is_given(value) and value != ()}


def _read_arguments(arguments: Mapping[str, Any], spec: TaskSpec) -> dict[str, Any]:
    """Return the arguments of the model's call; what options do not give is read from standard input."""
    given = _list_given(arguments)
    if not spec.is_call(frozenset(given) | {spec.main_text}):
        raise click.UsageError(
            f"A bundle for {spec.task.value} takes {_join_options(spec.needed, ' and ')} "
            f"(optional: {_join_options(spec.optional, ', ')}), got {_join_options(given, ', ') or 'none of them'}."
        )
    if spec.main_text == "context":
        given["context"] = _read_stdin("--context") if given.get("context") in {None, _STDIN} else given["context"]
    else:
        given["texts"], empty_lines = _read_texts(given.get("texts", ()))
        given |= _without_empty_lines(given, empty_lines)
    if "choices" in given:
        given["choices"] = [list(given["choices"])] * len(given["texts"])
    return given


def _join_options(arguments: Iterable[str], separator: str) -> str:
    return separator.join(_option(name) for name in ARGUMENTS if name in set(arguments))


def _read_texts(options: tuple[str, ...]) -> tuple[list[str], dict[int, int]]:
    """Return the texts, those of standard input in place of a '-', and which of them are empty lines: place -> line."""
    texts: list[str] = []
    empty_lines: dict[int, int] = {}
    for text in options or (_STDIN,):
        if text != _STDIN:
            texts.append(text)
            continue
        for number, line in enumerate(_lines(_read_stdin("--text")), start=1):
            if not line.strip():
                empty_lines[len(texts)] = number
            texts.append(line)
    return texts, empty_lines


def _without_empty_lines(given: Mapping[str, Any], empty_lines: Mapping[int, int]) -> dict[str, Any]:
    """Return the texts without empty lines, and without their pairs; a warning says which they were."""
    listed = {name: given[name] for name in ("texts", "text_pair") if name in given}
    if not empty_lines or len({len(values) for values in listed.values()}) > 1:  # the model refuses unequal lists
        return listed
    click.echo(f"Warning: {_name_lines(list(empty_lines.values()))} skipped.", err=True)
    return {
        name: [value for place, value in enumerate(values) if place not in empty_lines]
        for name, values in listed.items()
    }


def _name_lines(lines: Sequence[int]) -> str:
    if len(lines) == 1:
        return f"line {lines[0]} is empty and was"
    shown = [str(line) for line in lines[:_LINES_NAMED]]
    last = shown.pop() if len(lines) <= _LINES_NAMED else f"{len(lines) - _LINES_NAMED} more"
    return f"lines {', '.join(shown)} and {last} are empty and were"


def _lines(text: str) -> list[str]:
    """Return the lines of a text; unlike splitlines, a rare character such as U+2028 does not end one."""
    return text.replace("\r\n", "\n").rstrip("\n").split("\n")


def _read_stdin(option: str) -> str:
    try:
        text = "" if sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as err:
        raise click.UsageError(f"Standard input must be UTF-8, got: {err}.") from err
    if not text.strip():
        raise click.UsageError(f"Give {option}, or the input on standard input.")
    return text


@main.command()
@_bundle
@click.option("--tokens", type=click.IntRange(min=1), multiple=True, help="Input length; repeatable.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads that compute.")
@_json
def bench(bundle: Path, *, tokens: tuple[int, ...], threads: int, as_json: bool) -> None:
    """Measure every graph on this machine: median milliseconds of one text.

    An anytime graph is measured with lengths that drop nothing.
    """
    from dynbert import reports
    from dynbert.latency import latency_lengths, measure_latency
    from dynbert.lengths import LengthConfig
    from dynbert.manifest import ANYTIME, check_files, read_manifest

    manifest = read_manifest(bundle)
    check_files(bundle, manifest.entries)
    model = manifest.model
    too_long = [count for count in tokens if count > model.max_length]
    if too_long:
        raise InputError(f"--tokens must be at most {model.max_length}, the bundle's maximum, got {too_long[0]}.")
    everything = LengthConfig.everything(model.num_layers)
    results = {
        graph.file: measure_latency(
            bundle / graph.file,
            model,
            tokens or latency_lengths(model.max_length),
            config=everything if graph.profile == ANYTIME else None,
            threads=threads,
        )
        for graph in manifest.graphs
    }
    click.echo(reports.bench_json(results) if as_json else reports.bench_text(manifest, results))


@main.command()
@_bundle
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The HTML file to write.")
@click.option("--overwrite", is_flag=True, help="Replace a report that is there.")
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    multiple=True,
    help="Input length to show what layers drop at, and to measure at; repeatable.",
)
@click.option("--measure", is_flag=True, help="Measure latency here and now; else the bundle's own numbers are shown.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads that compute.")
@_call_options
def report(
    bundle: Path,
    *,
    output: Path,
    overwrite: bool,
    tokens: tuple[int, ...],
    measure: bool,
    threads: int,
    **arguments: Any,
) -> None:
    """Write a page for people: profiles, quality, time, memory, and which tokens of a text survive which layer.

    One HTML file that loads nothing. Without --text (or --question and --context) it has a text of its own.
    """
    from dynbert.manifest import read_manifest
    from dynbert.page.report import ReportOptions, write_report

    spec = task_spec(read_manifest(bundle).model.task)
    call = _read_arguments(arguments, spec) if _list_given(arguments) else None
    write_report(bundle, output, ReportOptions(call, tokens, threads, measure), overwrite=overwrite)
    click.echo(f"{output} is written ({size_text(output.stat().st_size)}). Open it in a browser.")


@main.command()
@_bundle
@_threads
@click.pass_context
def verify(ctx: click.Context, bundle: Path, *, threads: int | None) -> None:
    """Check that a bundle works on this machine: files, graphs, and outputs recorded at export."""
    from dynbert import reports
    from dynbert.verify import verify_bundle

    checks = verify_bundle(bundle, threads=threads)
    click.echo(reports.verification_text(checks))
    if not all(check.is_passed for check in checks):
        ctx.exit(DynbertError.exit_code)
