"""How well every graph of a bundle answers labelled data, how sure that is, and how long it takes.

All graphs answer the same examples and are compared with one of them, the reference: the fp32 graph that drops nothing,
where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dynbert.cpu import int8_target
from dynbert.errors import InputError
from dynbert.manifest import (
    DataLatency,
    Difference,
    Evaluation,
    MetricValue,
    Precision,
)
from dynbert.packages import import_extra
from dynbert.scoring.evaluate import answer_all, make_answerer
from dynbert.scoring.examples import TextExample
from dynbert.scoring.intervals import bootstrap_interval, compare
from dynbert.scoring.jobs import make_job
from dynbert.scoring.timing import ROUNDS, pick_evenly, time_inputs
from dynbert.selection import is_exact_on, make_request, profile_names, select_graph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert.manifest import GraphEntry, Manifest
    from dynbert.model import DynamicBert
    from dynbert.scoring.examples import LabelledData
    from dynbert.scoring.jobs import Job
    from dynbert.scoring.metrics import ScoredMetric

__all__ = [
    "BundleEvaluation",
    "Candidate",
    "EvaluationOptions",
    "EvaluationProgress",
    "GraphEvaluation",
    "evaluate_bundle",
    "list_candidates",
]


@dataclass(frozen=True)
class Candidate:
    """A graph to evaluate."""

    model: DynamicBert
    """Its bundle, loaded with the graph's precision."""
    graph: GraphEntry

    @property
    def title(self) -> str:
        """Return profile and precision, for messages."""
        return f"{self.graph.profile} {self.graph.precision.value}"


@dataclass(frozen=True)
class EvaluationOptions:
    """How graphs are evaluated."""

    query_profile: str | None = None
    """For retrieval: the profile that embeds the queries; None for the one that embeds the passages."""
    truncate: bool = False
    """Whether to cut texts that are too long; else they are refused."""
    timed_inputs: int = 60
    """How many inputs are timed, one by one; 0 for none."""
    threads: int = 1
    """That the models were loaded with."""


@dataclass(frozen=True)
class GraphEvaluation:
    """What was found of one graph."""

    candidate: Candidate
    evaluation: Evaluation


@dataclass(frozen=True)
class BundleEvaluation:
    """What was found of all graphs."""

    data: str
    """The data's name."""
    reference: GraphEvaluation
    """What the others are compared with."""
    graphs: tuple[GraphEvaluation, ...]
    """In the candidates' order; the reference is one of them where it was a candidate."""
    notes: tuple[str, ...]
    """What a reader should know of the data."""


class EvaluationProgress(Protocol):
    """Told how far an evaluation is."""

    def start(self, steps: int) -> None:
        """Begin.

        Args:
            steps: How many there will be.
        """

    def advance(self, steps: int) -> None:
        """Go on.

        Args:
            steps: How many were done since the last time.
        """


class _NoProgress:
    def start(self, steps: int) -> None:
        del steps

    def advance(self, steps: int) -> None:
        del steps


def list_candidates(
    models: Mapping[Precision, DynamicBert], profiles: Sequence[str] = (), *, exact_only: bool = False
) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """Return the graphs of a bundle that this machine would run, profile by profile.

    Args:
        models: The bundle, loaded with each precision that is asked for.
        profiles: Their names; none for all.
        exact_only: Whether to leave out graphs that this machine may not compute exactly: what is recorded for other
            machines must hold there.

    Returns:
        The candidates, and a note on each graph that was left out.

    Raises:
        ProfileError: If the bundle has no such profile.
    """
    manifest = next(iter(models.values())).manifest
    machine = int8_target()
    candidates, notes = [], []
    for name in dict.fromkeys(profiles) or profile_names(manifest):
        request = make_request(manifest, profile=name)
        for precision, model in models.items():
            if not _has_graph(manifest, name, precision):
                continue
            graph = select_graph(manifest, request, precision=precision, machine=machine)
            if is_exact_on(graph, machine) or not exact_only:
                candidates.append(Candidate(model, graph))
            else:
                notes.append(f"{graph.file} is left out: this CPU may not compute it exactly.")
    return tuple(candidates), tuple(notes)


def _has_graph(manifest: Manifest, profile: str, precision: Precision) -> bool:
    return any(graph.profile == profile and graph.precision is precision for graph in manifest.graphs)


def evaluate_bundle(
    candidates: Sequence[Candidate],
    reference: Candidate,
    data: LabelledData,
    options: EvaluationOptions,
    progress: EvaluationProgress | None = None,
) -> BundleEvaluation:
    """Evaluate graphs on labelled data.

    Args:
        candidates: The graphs.
        reference: What they are compared with; best the fp32 graph that drops nothing, a candidate or not.
        data: What to evaluate on, at least two examples.
        options: How.
        progress: Told how far it is.

    Returns:
        Every metric of every candidate, with its interval and its difference from the reference.

    Raises:
        InputError: If the data is not for the bundle's task or of other labels, or a text is too long.
        BundleError: If a file of the bundle turns out not to work.
        MissingPackageError: If a package of the extra ``eval`` is missing.
    """
    if len(data.examples) < 2:
        raise InputError(
            f"Labelled data must have at least 2 examples to tell how sure a metric is, got 1 in {data.name}."
        )
    import_extra("scipy.stats", extra="eval", purpose="compute intervals")  # before minutes of answers
    progress = progress or _NoProgress()
    job = make_job(reference.model.manifest.model, data, has_own_queries=options.query_profile is not None)
    graphs = _distinct([reference, *candidates])
    timed = pick_evenly(job.inputs, options.timed_inputs) if options.timed_inputs > 0 else []
    models = {id(each.model): each.model for each in graphs}
    progress.start(len(job.queries) * len(models) + (len(job.inputs) + ROUNDS * len(timed)) * len(graphs))
    scored = _score(graphs, models, job, data.name, options, progress)
    times = _time(graphs, job, timed, options, progress)
    digest = data.sha256()

    def describe(each: Candidate) -> GraphEvaluation:
        against = None if each is reference else scored[reference.graph.file]
        evaluation = Evaluation(
            data=data.name,
            sha256=digest,
            examples=len(data.examples),
            metrics=_judge(scored[each.graph.file], against),
            latency=_latency(times[each.graph.file], options.threads) if timed else None,
        )
        return GraphEvaluation(each, evaluation)

    found = {each.graph.file: describe(each) for each in graphs}
    return BundleEvaluation(
        data=data.name,
        reference=found[reference.graph.file],
        graphs=tuple(found[each.graph.file] for each in candidates),
        notes=_describe_data(data),
    )


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return each graph's first candidate."""
    by_file: dict[str, Candidate] = {}
    for each in candidates:
        by_file.setdefault(each.graph.file, each)
    return list(by_file.values())


def _score(
    graphs: Sequence[Candidate],
    models: Mapping[int, DynamicBert],
    job: Job,
    source: str,
    options: EvaluationOptions,
    progress: EvaluationProgress,
) -> dict[str, tuple[ScoredMetric, ...]]:
    """Return graph's file -> the metrics of its answers; queries of a profile of their own are asked once a model."""

    def ask(model: DynamicBert, profile: str | None, inputs: Sequence[Any]) -> list[Any]:
        answer = make_answerer(model, job, profile=profile, truncate=options.truncate)
        return answer_all(answer, inputs, source, on_answers=progress.advance)

    queries = {key: ask(model, options.query_profile, job.queries) for key, model in models.items()}
    return {
        each.graph.file: job.score([*queries[id(each.model)], *ask(each.model, each.graph.profile, job.inputs)])
        for each in graphs
    }


def _time(
    graphs: Sequence[Candidate],
    job: Job,
    timed: Sequence[Any],
    options: EvaluationOptions,
    progress: EvaluationProgress,
) -> dict[str, NDArray[np.float64]]:
    """Return graph's file -> milliseconds of each timed input."""
    if not timed:
        return {}
    answerers = [
        make_answerer(each.model, job, profile=each.graph.profile, truncate=options.truncate) for each in graphs
    ]
    runs = [lambda one, answer=answer: answer([one]) for answer in answerers]
    times = time_inputs(runs, timed, on_round=lambda: progress.advance(len(timed)))
    return {each.graph.file: row for each, row in zip(graphs, times, strict=True)}


def _judge(metrics: Sequence[ScoredMetric], against: Sequence[ScoredMetric] | None) -> tuple[MetricValue, ...]:
    """Return metrics with their intervals and, but for the reference, their differences."""
    references = {} if against is None else {metric.name: metric for metric in against}
    values = []
    for metric in metrics:
        interval = bootstrap_interval(metric)
        reference = references.get(metric.name)
        values.append(
            MetricValue(
                name=metric.name,
                value=metric.value,
                low=interval.low,
                high=interval.high,
                difference=None if reference is None else _difference(reference, metric),
            )
        )
    return tuple(values)


def _difference(reference: ScoredMetric, metric: ScoredMetric) -> Difference:
    found = compare(reference, metric)
    return Difference(
        value=found.difference,
        low=found.interval.low,
        high=found.interval.high,
        p_value=found.p_value,
        test=found.test,
    )


def _latency(milliseconds: NDArray[np.float64], threads: int) -> DataLatency:
    return DataLatency(
        inputs=len(milliseconds),
        threads=threads,
        median_ms=float(np.median(milliseconds)),
        p95_ms=float(np.percentile(milliseconds, 95)),
    )


def _describe_data(data: LabelledData) -> tuple[str, ...]:
    """Return a note where a metric says little because of the data."""
    labels = {example.label for example in data.examples if isinstance(example, TextExample)}
    only = next(iter(labels)) if len(labels) == 1 else None
    if not isinstance(only, int) or not data.label_names:
        return ()
    label = f"All {len(data.examples)} examples of {data.name} have the label {data.label_names[only]}"
    return (f"{label}: accuracy says little then, and a correlation is 0.",)
