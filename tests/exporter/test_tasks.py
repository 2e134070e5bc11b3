"""The table of tasks: complete, and in line with optimum where optimum knows a head."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dynbert.manifest import Task
from dynbert_export.tasks import ARCHITECTURES, HEADS, Metric, ProblemType, find_metric, find_task


def test_every_task_has_a_head_of_its_own():
    assert set(HEADS) == set(Task)
    assert len(set(ARCHITECTURES)) == len(Task)


@pytest.mark.parametrize("task", list(Task))
def test_the_architecture_is_transformers_and_ours(task):
    import transformers

    from dynbert_export import modeling

    for name in HEADS[task].sources:
        assert hasattr(transformers, name)
        assert hasattr(modeling, name)
    assert find_task(HEADS[task].architecture) is task


@pytest.mark.parametrize("task", list(Task))
def test_optimum_infers_the_same_task_where_it_knows_the_head(task):
    import transformers
    from optimum.exporters.tasks import TasksManager

    model_class = getattr(transformers, HEADS[task].architecture)
    if task in {Task.NEXT_SENTENCE_PREDICTION, Task.PRETRAINING}:
        with pytest.raises(ValueError, match="task name could not be automatically inferred"):
            TasksManager.infer_task_from_model(model_class)
    else:
        assert TasksManager.infer_task_from_model(model_class) == task.value == HEADS[task].optimum_task


@pytest.mark.parametrize("architecture", [None, "BertLMHeadModel", "RobertaForMaskedLM", "AutoModel", "bertmodel"])
def test_other_architectures_have_no_task(architecture):
    assert find_task(architecture) is None


@pytest.mark.parametrize(
    ("problem_type", "metric"),
    [
        (ProblemType.SINGLE_LABEL, Metric.LABEL_AGREEMENT),
        (ProblemType.MULTI_LABEL, Metric.LABEL_AGREEMENT),
        (ProblemType.REGRESSION, Metric.CLOSENESS),
        (ProblemType.RANKING, Metric.RANK_CORRELATION),
        ("ranking", Metric.RANK_CORRELATION),
        (None, Metric.LABEL_AGREEMENT),
    ],
)
def test_the_metric_of_a_text_classification_follows_from_its_problem_type(problem_type, metric):
    assert find_metric(Task.TEXT_CLASSIFICATION, problem_type) is metric


def test_every_other_task_has_one_metric():
    found = {task: find_metric(task) for task in set(Task) - {Task.TEXT_CLASSIFICATION}}
    assert found.pop(Task.NEXT_SENTENCE_PREDICTION) is Metric.LABEL_AGREEMENT
    assert set(found.values()) == set(Metric) - {Metric.LABEL_AGREEMENT, Metric.CLOSENESS, Metric.RANK_CORRELATION}
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("task", list(Task))
def test_calls_name_the_profile_and_the_mask(task):
    call = HEADS[task].call.format(profile="fast", mask="<mask>")
    assert 'profile="fast"' in call
    assert ("<mask>" in call) == HEADS[task].has_vocabulary
    compile(call, "card", "eval")


def test_the_table_is_read_without_pytorch():
    code = "import sys, dynbert_export.tasks; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
