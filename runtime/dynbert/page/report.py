"""``dynbert report``: what is asked for, and the page's contents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dynbert.cpu import cpu_name, int8_target
from dynbert.errors import InputError
from dynbert.graph_rows import metric_text, pooling_text
from dynbert.kept_values import read_kept_values
from dynbert.latency import latency_lengths, measure_latency
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, check_files, read_manifest
from dynbert.model import DynamicBert
from dynbert.page.advice import advise
from dynbert.page.graphs import Times, list_graphs, quality_text, sentence_name
from dynbert.page.latency_charts import plot_latency
from dynbert.page.lengths import tabulate_lengths
from dynbert.page.memory import list_files_by_use, measure_memory
from dynbert.page.plots import plot_quality
from dynbert.page.render import check_output, open_templates, render_page, write_page
from dynbert.page.samples import sample_call, split_call
from dynbert.page.tokens import look_at_text
from dynbert.selection import profile_names, select_graphs
from dynbert.session import open_graph
from dynbert.tasks.arguments import ARGUMENTS
from dynbert.tasks.registry import task_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dynbert.manifest import Manifest, ModelInfo
    from dynbert.page.graphs import GraphView
    from dynbert.page.tokens import Example

__all__ = ["ProfileExamples", "ReportOptions", "make_contents", "write_report"]


@dataclass(frozen=True)
class ReportOptions:
    """What a report is to have."""

    call: Mapping[str, Any] | None = None
    """Arguments of ``model(...)`` as the command reads them: what to show the tokens of. None for a text of ours."""
    tokens: tuple[int, ...] = ()
    """Input lengths to show what layers drop at, and to measure latency at; empty for the usual ones."""
    threads: int = 1
    """Threads that compute whatever is computed for the report."""
    is_measured_here: bool = False
    """Whether latency is measured now, on this machine; else the manifest's is shown."""


def write_report(bundle: Path, output: Path, options: ReportOptions, *, overwrite: bool) -> None:
    """Write the page of a bundle.

    Args:
        bundle: The bundle's folder.
        output: The HTML file.
        options: What to show.
        overwrite: Whether a report that is there may be replaced.

    Raises:
        BundleError: If a file of the bundle does not work.
        DynbertError: If the disk refuses, or a package of the extra ``report`` is missing.
        InputError: If the output's place is none, a length is too long, or the call does not suit the task.
    """
    check_output(output, overwrite=overwrite, bundle=bundle)
    templates = open_templates()  # first: what is missing shows before anything is measured
    write_page(output, render_page(templates, make_contents(bundle, options)))


def make_contents(bundle: Path, options: ReportOptions) -> dict[str, Any]:
    """Return all that the page shows.

    Args:
        bundle: The bundle's folder.
        options: What to show.

    Returns:
        By the names that the templates use.

    Raises:
        BundleError: If a file of the bundle does not work.
        InputError: If a length is too long, or the call does not suit the task.
    """
    manifest = read_manifest(bundle)
    check_files(bundle, manifest.entries)
    max_length = manifest.model.max_length
    too_long = [count for count in options.tokens if count > max_length]
    if too_long:
        raise InputError(f"--tokens must be at most {max_length}, the bundle's maximum, got {too_long[0]}.")
    lengths = tuple(sorted(set(options.tokens))) or latency_lengths(max_length)
    # Before this process opens graphs: pages that it would share count half in the other one.
    memory = measure_memory(bundle, manifest, machine=int8_target(), threads=options.threads)
    times = _measure(bundle, manifest, lengths, options) if options.is_measured_here else _recorded(manifest)
    graphs = list_graphs(manifest, times)
    files, total_size = list_files_by_use(manifest)
    examples, note = _read_texts(bundle, manifest, options)
    used = {graph.file for graph in select_graphs(manifest, machine=int8_target()).values()}
    base = next((graph for graph in graphs if graph.is_base), None)
    return {
        "quality": quality_text,
        "quality_name": _quality_name(manifest, graphs),
        "base_name": "" if base is None or base.ms is None else base.name,
        "length_start": lengths.index(times.typical_tokens) if times.typical_tokens in lengths else len(lengths) - 1,
        "example_start": min(1, len(examples) - 1) if examples else 0,
        "text_options": _text_options(manifest.model),
        "model": manifest.model,
        "facts": _list_facts(manifest, times, total_size),
        "times": times,
        "here": cpu_name(),
        "here_formats": ", ".join(dict.fromkeys(graph.number_format for graph in graphs if graph.entry.file in used)),
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "version": version("dynbert"),
        "metric": metric_text(manifest),
        "advice": advise(manifest, graphs),
        "graphs": graphs,
        "has_data": any(graph.evaluation is not None for graph in graphs),
        "quality_plots": plot_quality(manifest, graphs, times),
        "latency_charts": plot_latency(graphs, times),
        "length_tables": tabulate_lengths(manifest, lengths, _find_first_token_layers(bundle, manifest)),
        "examples": examples,
        "examples_note": note,
        "is_own_text": options.call is not None,
        "files": files,
        "total_size": total_size,
        "memory": memory,
        "threads": options.threads,
    }


def _recorded(manifest: Manifest) -> Times:
    latencies = {
        graph.file: tuple(latency for latency in graph.latency if latency.batch == 1) for graph in manifest.graphs
    }
    return Times(manifest.cpu, is_here=False, latencies=latencies)


def _measure(bundle: Path, manifest: Manifest, lengths: Sequence[int], options: ReportOptions) -> Times:
    everything = LengthConfig.everything(manifest.model.num_layers)
    latencies = {
        graph.file: measure_latency(
            bundle / graph.file,
            manifest.model,
            lengths,
            config=everything if graph.profile == ANYTIME else None,
            threads=options.threads,
        )
        for graph in manifest.graphs
    }
    return Times(cpu_name(), is_here=True, latencies=latencies)


def _find_first_token_layers(bundle: Path, manifest: Manifest) -> dict[str, int | None]:
    """Return which layer each profile's graph runs for the first token alone, where the graph says so."""
    found = {}
    for name, graph in select_graphs(manifest, machine=int8_target()).items():
        values = read_kept_values(open_graph(bundle / graph.file, threads=1).metadata, manifest.model.num_layers)
        if values is not None:
            found[name] = values.first_token_layer
    return found


@dataclass(frozen=True)
class ProfileExamples:
    """The texts as one profile reads them."""

    profile: str
    examples: tuple[Example, ...]


def _read_texts(bundle: Path, manifest: Manifest, options: ReportOptions) -> tuple[tuple[ProfileExamples, ...], str]:
    """Return the texts as each profile reads them; none, and why, where that cannot be shown."""
    model = DynamicBert(bundle, manifest, threads=options.threads)
    calls = [sample_call(manifest.model)] if options.call is None else split_call(options.call)
    read = []
    for profile in profile_names(manifest):
        try:
            examples = [look_at_text(model, call, profile) for call in calls]
        except InputError as err:
            if options.call is not None:
                raise
            return (), f"The text that comes with dynbert does not suit this bundle: {err} Give one with --text."
        if None in examples:
            return (), (
                "This bundle's graphs do not say which tokens they keep: it was made before they could. "
                "Export it again to see them here."
            )
        read.append(ProfileExamples(profile, tuple(example for example in examples if example is not None)))
    return tuple(read), ""


def _quality_name(manifest: Manifest, graphs: Sequence[GraphView]) -> str:
    """Return what the table's one number of quality is."""
    evaluations = [graph.evaluation for graph in graphs if graph.evaluation is not None]
    if not evaluations:
        return f"{metric_text(manifest)} with full fp32"
    return f"{sentence_name(evaluations[0].metrics[0].name)}, {evaluations[0].data}"


def _text_options(model: ModelInfo) -> list[str]:
    """Return the command's options that give a text."""
    needed = task_spec(model.task).needed
    return [item.option or f"--{name.replace('_', '-')}" for name, item in ARGUMENTS.items() if name in needed]


def _list_facts(manifest: Manifest, times: Times, total_size: str) -> tuple[tuple[str, str], ...]:
    """Return what stands at the head of the page: names and values."""
    model = manifest.model
    threads = ", ".join(map(str, times.threads))
    when = "now" if times.is_here else "when the bundle was made"
    return (
        ("Task", _task_text(model)),
        ("Model", f"{model.architecture}, {model.num_layers} layers, {model.hidden_size} wide"),
        ("Longest input", f"{model.max_length} tokens"),
        (
            "Bundle",
            f"{total_size} in {len(manifest.entries)} files, made by dynbert {manifest.created_by.get('dynbert', '?')}",
        ),
        ("Times", f"{times.machine}, measured {when}, {threads} thread{'s' * (threads != '1')}" if threads else "none"),
    )


def _task_text(model: ModelInfo) -> str:
    if model.embeddings is None:
        return model.task.value
    return f"{model.task.value}: {model.embeddings.value} ({pooling_text(model.pooling)})"
