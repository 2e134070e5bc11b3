"""Options that nothing would come of, and data that the checkpoint or an option has no use for, are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring.examples import LabelledData, PlainExample, TextExample
from dynbert_export.training.checks import check_fit, check_options
from dynbert_export.training.model import find_start
from tests.helpers.checkpoints import make_checkpoint

_EMBEDDINGS = Task.FEATURE_EXTRACTION.value


def _start(config):
    return find_start(config.model, task=config.task)


@pytest.mark.parametrize(
    ("task", "options", "names"),
    [
        ("text-classification", {"temperature": 2.0, "hidden_weight": 1.0, "problem_type": "regression"}, []),
        ("multiple-choice", {"choice_columns": ["a", "b"]}, []),
        (_EMBEDDINGS, {"similarity_weight": 0.0, "contrastive_weight": 1.0}, []),
        (_EMBEDDINGS, {"hidden_weight": 0.0, "temperature": 1.0}, []),  # as they are anyway
        ("text-classification", {"teacher_weight": 0.9, "teacher": "t"}, []),
        ("token-classification", {"problem_type": "regression"}, ["problem_type"]),
        (
            "text-classification",
            {"choice_columns": ["a"], "similarity_weight": 0.5},
            ["choice_columns", "similarity_weight"],
        ),
        ("question-answering", {"contrastive_weight": 0.5}, ["contrastive_weight"]),
        (_EMBEDDINGS, {"hidden_weight": 1.0, "temperature": 2.0}, ["temperature", "hidden_weight"]),
        (_EMBEDDINGS, {"teacher_weight": 0.9, "teacher": "t"}, ["teacher_weight"]),
        ("text-classification", {"teacher_weight": 0.9}, ["teacher_weight"]),
    ],
)
def test_options_without_a_meaning_are_refused(make_config, task, options, names):
    config = make_config(task=task, **options)
    if not names:
        check_options(config, _start(config))
        return
    with pytest.raises(InputError) as caught:
        check_options(config, _start(config))
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == names
    assert all(line.endswith(f" for {task}. Leave it out.") for line in lines)


def test_answers_need_room(make_config):
    config = make_config(task=Task.QUESTION_ANSWERING.value)
    with pytest.raises(InputError, match=r"max_length must be at least 8 for question answering, got 7\."):
        check_options(config, replace(_start(config), max_length=7))
    check_options(config, replace(_start(config), max_length=8))


def test_least_lengths_are_one_a_layer(make_config):
    config = make_config(least_lengths=[0.5, 0.4, 0.3])
    with pytest.raises(InputError, match="least_lengths: A length config must have 2 entries, one a layer, got 3"):
        check_options(config, _start(config))


def _texts(problem, *, pair=None):
    return LabelledData(Task.TEXT_CLASSIFICATION, (TextExample("a", pair, 0),), (), problem, "data.csv")


@pytest.mark.parametrize(
    ("logits", "problem", "is_refused"),
    [
        (1, "regression", False),
        (1, "ranking", False),
        (3, "single_label_classification", False),
        (3, "multi_label_classification", False),
        (1, "multi_label_classification", False),
        (3, "regression", True),
        (3, "ranking", True),
        (1, "single_label_classification", True),
    ],
)
def test_a_head_has_the_logits_of_its_problem(make_config, tmp_path, logits, problem, is_refused):
    labels = tuple(f"LABEL_{number}" for number in range(logits))
    model = make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION, labels=labels)
    config = make_config(model=str(model))
    if not is_refused:
        check_fit(config, _start(config), _texts(problem))
        return
    with pytest.raises(InputError, match=rf"The checkpoint's head must have .* for {problem}, got {logits} \("):
        check_fit(config, _start(config), _texts(problem))


def test_a_new_head_has_what_the_data_asks_for(make_config):
    config = make_config()
    for problem in ("regression", "ranking", "single_label_classification", "multi_label_classification"):
        check_fit(config, _start(config), _texts(problem))


def test_pairs_need_a_second_token_type(make_config, tmp_path):
    config = make_config(model=str(make_checkpoint(tmp_path / "model", type_vocab_size=1)))
    check_fit(config, _start(config), _texts("single_label_classification"))
    with pytest.raises(
        InputError, match=r"Data must have no pairs for a checkpoint with a type_vocab_size of 1, got some in"
    ):
        check_fit(config, _start(config), _texts("single_label_classification", pair="b"))


@pytest.mark.parametrize(
    ("example", "got"),
    [
        (PlainExample("a", None, None), "texts alone"),
        (PlainExample("a", "b", 0.5), "pairs with scores, which may be strangers"),
        (PlainExample("a", "b", None), None),
    ],
)
def test_contrast_needs_partners(make_config, example, got):
    config = make_config(task=_EMBEDDINGS, contrastive_weight=1.0)
    data = LabelledData(Task.FEATURE_EXTRACTION, (example,), (), None, "data.csv")
    check_fit(make_config(task=_EMBEDDINGS), _start(config), data)
    if got is None:
        check_fit(config, _start(config), data)
        return
    with pytest.raises(InputError, match=rf"that belong together for a contrastive_weight, got {got} in data.csv"):
        check_fit(config, _start(config), data)
