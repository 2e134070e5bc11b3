"""What dynbert promises, as ratios of one run; computed from the rows, never stored apart from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.manifest import FULL, Task
from dynbert_bench.competitors import BASE_LINE, own_name
from dynbert_bench.options import FAST
from dynbert_bench.results import GoalResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert_bench.results import FloorInfo, Row

__all__ = ["GOALS", "Goal", "judge_goals"]

_OURS = own_name(FAST)
_QUESTION_TOKENS = 384
_CLASSIFIER_TOKENS = 128


@dataclass(frozen=True)
class Goal:
    """A bound on the ratio of two rows of one cell."""

    name: str
    slower: str
    """Competitor whose time is divided."""
    faster: str | None
    """Competitor that it is divided by; None for the floor of ``fast``."""
    bound: float
    is_least: bool = True
    """Whether the ratio must be at least the bound, or at most."""
    task: Task = Task.QUESTION_ANSWERING
    tokens: int = _QUESTION_TOKENS

    @property
    def rule(self) -> str:
        """The bound in words."""
        return f"{'>=' if self.is_least else '<='} {self.bound:g}x"


GOALS = (
    Goal("fast against the base line: BERT-base fp32, onnxruntime", BASE_LINE, _OURS, 28.0),
    Goal("fast against optimum-onnx dynamic INT8, full length", "ort-dynamic-full", _OURS, 2.2),
    Goal("fast against optimum-onnx dynamic INT8, same lengths", "ort-dynamic-fast", _OURS, 1.35),
    Goal("fast against OpenVINO + NNCF, same lengths", "openvino-fast", _OURS, 1.15),
    Goal("fast against OpenVINO + NNCF, full length", "openvino-full", _OURS, 1.4),
    Goal("fast by the floor: products at measured peaks", _OURS, None, 1.6, is_least=False),
    Goal(
        "full text classification against OpenVINO + NNCF",
        "openvino-full",
        own_name(FULL),
        1.0,
        task=Task.TEXT_CLASSIFICATION,
        tokens=_CLASSIFIER_TOKENS,
    ),
)


def judge_goals(
    rows: Sequence[Row], floors: Sequence[FloorInfo], *, is_quick: bool, goals: Sequence[Goal] = GOALS
) -> tuple[GoalResult, ...]:
    """Hold a run's rows to the goals.

    Args:
        rows: All rows.
        floors: All floors.
        is_quick: Whether it was a smoke run: then the ratios are those of its longest input, and there is no verdict.
        goals: What to hold them to.

    Returns:
        One result a goal, in their order.
    """
    longest = max((row.cell.tokens for row in rows), default=0)
    return tuple(_judge(goal, rows, floors, longest if is_quick else goal.tokens, is_quick=is_quick) for goal in goals)


def _judge(goal: Goal, rows: Sequence[Row], floors: Sequence[FloorInfo], tokens: int, *, is_quick: bool) -> GoalResult:
    slower = _find_times(rows, goal, goal.slower, tokens)
    if goal.faster is not None:
        faster = _find_times(rows, goal, goal.faster, tokens)
    else:
        floor = next((item.ms for item in floors if (item.profile, item.tokens) == (FAST, tokens)), None)
        faster = (floor, (floor,) * len(slower[1])) if floor is not None and slower is not None else None
    if slower is None or faster is None:
        return GoalResult(
            name=goal.name, rule=goal.rule, ratio=None, lowest=None, highest=None, verdict=Verdict.NOT_MEASURED
        )
    ratio = slower[0] / faster[0]
    single = [first / second for first, second in zip(slower[1], faster[1], strict=True)]
    is_met = ratio >= goal.bound if goal.is_least else ratio <= goal.bound
    verdict = Verdict.SMOKE_RUN if is_quick else Verdict.MET if is_met else Verdict.NOT_MET
    return GoalResult(
        name=goal.name, rule=goal.rule, ratio=ratio, lowest=min(single), highest=max(single), verdict=verdict
    )


def _find_times(
    rows: Sequence[Row], goal: Goal, competitor: str, tokens: int
) -> tuple[float, tuple[float, ...]] | None:
    """Return a competitor's median and its rounds in the goal's cell; None where it was not measured."""
    for row in rows:
        place = (row.competitor, row.cell.task, row.cell.tokens, row.cell.batch)
        if place == (competitor, goal.task, tokens, 1) and row.median_ms is not None:
            return row.median_ms, row.rounds_ms
    return None
