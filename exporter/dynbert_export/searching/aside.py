"""How good graphs are by the data that was kept aside: it chose nothing, so it flatters nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dynbert.manifest import Precision
from dynbert.scoring.intervals import bootstrap_interval, compare
from dynbert_export.searching.examination import find_metric, make_examination
from dynbert_export.searching.results import MetricResult

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from dynbert.scoring.jobs import Job
    from dynbert.scoring.metrics import ScoredMetric
    from dynbert_export.progress import StepProgress
    from dynbert_export.searching.asking import Respondent
    from dynbert_export.searching.judging import Judge
    from dynbert_export.searching.splitting import Part

__all__ = ["REFERENCE", "AsideJudge"]

REFERENCE = -1
"""Number of the graph that others are compared with: fp32, dropping nothing."""


@dataclass(frozen=True)
class AsideJudge:
    """Judges frozen graphs."""

    judge: Judge
    part: Part
    """What was kept aside."""
    full_embeds_queries: bool
    """Retrieval: whether queries are embedded by full, and passages alone by the graph that is judged."""
    progress: StepProgress

    def judge_graphs(
        self, graphs: Mapping[int, Respondent], *, briefly: Collection[int]
    ) -> dict[int, tuple[MetricResult, ...]]:
        """Judge graphs, and compare each with the reference.

        Args:
            graphs: Number -> graph, ``REFERENCE`` among them.
            briefly: Numbers of those whose other metrics nobody asks for.

        Returns:
            Number -> metrics, the one that was maximised first.
        """
        scored: dict[int, tuple[ScoredMetric, ...]] = {}
        asker = self.judge.asker
        with self.progress.steps("judge by what was kept aside") as update:
            jobs = {is_reference: self._plan(is_reference=is_reference) for is_reference in (True, False)}
            for done, (number, graph) in enumerate(graphs.items()):
                update(done, len(graphs), "")
                job = jobs[number == REFERENCE]
                scored[number] = job.score(asker.answer(graph, job, job.inputs))
        results = {}
        with self.progress.stage("compare with fp32 full"):
            for number, metrics in scored.items():
                main = find_metric(metrics, self.judge.metric)
                names = [main.name, *(each.name for each in metrics if each is not main)]
                results[number] = tuple(
                    _describe(*(find_metric(scored[each], name) for each in (number, REFERENCE)))
                    for name in (names[:1] if number in briefly else names)
                )
        return results

    def _plan(self, *, is_reference: bool) -> Job:
        """Return how a graph is asked; queries of retrieval are embedded here, by full of the graph's precision."""
        judge = self.judge
        full = judge.graphs.ask_full(Precision.FP32 if is_reference else None)
        embed = partial(judge.asker.embed, full) if self.full_embeds_queries else None
        return make_examination(judge.graphs.model, self.part, seed=judge.seed, embed_queries=embed).whole


def _describe(metric: ScoredMetric, reference: ScoredMetric) -> MetricResult:
    """Return a metric with its interval, and its difference from the reference's, unless it is that itself."""
    interval = bootstrap_interval(metric)
    if metric is reference:
        return MetricResult(metric.name, metric.value, interval.low, interval.high)
    comparison = compare(reference, metric)
    return MetricResult(
        metric.name,
        metric.value,
        interval.low,
        interval.high,
        comparison.difference,
        comparison.interval.low,
        comparison.interval.high,
        comparison.p_value,
        comparison.test,
    )
