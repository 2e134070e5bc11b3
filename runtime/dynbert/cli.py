"""The ``dynbert`` command: what is in a bundle, what it answers, whether it works here.

Commands parse, call the library and print. Exit codes: 0 done, 1 the bundle does not work, 2 a wrong option or
input (``errors.py``).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from dynbert.command import report_problems
from dynbert.errors import DynbertError, InputError
from dynbert.manifest import Precision
from dynbert.tasks.fill_mask import DEFAULT_TOP_K
from dynbert.tasks.question_answering import AnswerOptions
from dynbert.tasks.registry import task_spec
from dynbert.tasks.token_classification import Aggregation, LabelOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dynbert.tasks.base import Arguments, TaskSpec

__all__ = ["main"]

_STDIN = "-"
_ARGUMENT_OPTIONS = {
    "texts": "--text",
    "text_pair": "--text-pair",
    "choices": "--choice",
    "question": "--question",
    "context": "--context",
    "stride": "--stride",
    "max_answer_tokens": "--max-answer-tokens",
    "aggregation": "--aggregation",
    "top_k": "--top-k",
    "truncate": "--truncate",
}
"""Which option gives which argument of a model's call, in the order of messages."""


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


@dataclass(frozen=True)
class _RunOptions:
    """The options of ``dynbert run``, as click passes them."""

    bundle: Path
    profile: str | None
    length_config: str | None
    precision: str | None
    threads: int | None
    text: tuple[str, ...]
    text_pair: tuple[str, ...]
    choice: tuple[str, ...]
    question: str | None
    context: str | None
    stride: int | None
    max_answer_tokens: int | None
    aggregation: str | None
    top_k: int | None
    truncate: bool
    as_json: bool


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
@click.option("--text", multiple=True, help="Text to read; repeatable. '-' reads one text a line.")
@click.option("--text-pair", multiple=True, help="Second text of a pair; repeatable, one for each text.")
@click.option("--choice", multiple=True, help="Text to choose from; repeatable. Every text has the same choices.")
@click.option("--question", help="Question to answer from the context.")
@click.option("--context", help="Text to answer from. '-' reads all of standard input.")
@click.option("--stride", type=click.IntRange(min=0), help="Tokens that windows of a long text share.")
@click.option(
    "--max-answer-tokens",
    type=click.IntRange(min=1),
    help=f"Longest answer.  [default: {AnswerOptions.max_answer_tokens}]",
)
@click.option(
    "--aggregation",
    type=click.Choice([item.value for item in Aggregation]),
    help=f"How the pieces of a word decide on its label.  [default: {LabelOptions.aggregation}]",
)
@click.option("--top-k", type=click.IntRange(min=1), help=f"Candidates for each mask.  [default: {DEFAULT_TOP_K}]")
@click.option("--truncate", is_flag=True, help="Cut texts that are too long; else they are refused.")
@_json
def run(**options: Any) -> None:
    """Read texts and answer by the bundle's task; which options that takes, a wrong one tells.

    Without --text (or --context) the input is read from standard input where that is not a terminal.
    """
    request = _RunOptions(**options)
    from dynbert.model import load

    model = load(request.bundle, request.threads, precision=request.precision)
    spec = task_spec(model.task)
    given = _arguments(request, spec)
    result = model(**given, profile=request.profile, length_config=request.length_config)
    click.echo(
        json.dumps(spec.to_json(given, result), ensure_ascii=False) if request.as_json else spec.to_text(given, result)
    )


def _arguments(request: _RunOptions, spec: TaskSpec) -> Arguments:
    """Return the arguments of the model's call; what options do not give is read from standard input."""
    values: dict[str, Any] = {
        "texts": list(request.text),
        "text_pair": list(request.text_pair),
        "choices": list(request.choice),
        "question": request.question,
        "context": request.context,
        "stride": request.stride,
        "max_answer_tokens": request.max_answer_tokens,
        "aggregation": request.aggregation,
        "top_k": request.top_k,
        "truncate": request.truncate or None,
    }
    given = {name: value for name, value in values.items() if value is not None and value != []}
    if not spec.is_call(frozenset(given) | {spec.main_text}):
        optional = f" (optional: {_options(spec.optional, ', ')})" if spec.optional else ""
        raise click.UsageError(
            f"A bundle for {spec.task.value} takes {_options(spec.needed, ' and ')}{optional}, "
            f"got {_options(given, ', ') or 'none of them'}."
        )
    if spec.main_text == "context":
        given["context"] = _read_stdin("--context") if request.context in {None, _STDIN} else request.context
    else:
        given["texts"] = _texts(request.text)
    if request.choice:
        given["choices"] = [list(request.choice)] * len(given["texts"])
    return cast("Arguments", given)


def _options(arguments: Iterable[str], separator: str) -> str:
    return separator.join(option for name, option in _ARGUMENT_OPTIONS.items() if name in set(arguments))


def _texts(options: tuple[str, ...]) -> list[str]:
    texts: list[str] = []
    for text in options or (_STDIN,):
        texts += _lines(_read_stdin("--text")) if text == _STDIN else [text]
    return texts


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
