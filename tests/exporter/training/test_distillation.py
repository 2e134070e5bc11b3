"""Each loss against a plain computation: its value, its direction, what it leaves out, and where its gradient goes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional
from transformers.utils.generic import ModelOutput

from dynbert.manifest import Task
from dynbert_export.training.distillation import (
    contrastive_loss,
    distil,
    embedding_loss,
    hidden_state_loss,
    kl_divergence,
)


def _randn(*shape, seed=0, grad=False):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


def _plain_kl(student, teacher, temperature):
    """KL(teacher || student), entry by entry."""
    total = 0.0
    for ours, theirs in zip(
        student.reshape(-1, student.shape[-1]), teacher.reshape(-1, teacher.shape[-1]), strict=True
    ):
        p, q = ((row.double() / temperature).softmax(0) for row in (theirs, ours))
        total += sum(float(a) * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
    return total / (student.numel() / student.shape[-1]) * temperature**2


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_divergence_is_that_of_the_teacher_from_the_student(temperature):
    student, teacher = _randn(4, 3), _randn(4, 3, seed=1)
    found = kl_divergence(student, teacher, temperature=temperature)
    assert float(found) == pytest.approx(_plain_kl(student, teacher, temperature), rel=1e-5)
    assert float(found) != pytest.approx(_plain_kl(teacher, student, temperature), rel=1e-2)


def test_divergence_of_equals_is_nothing_and_never_negative():
    logits = _randn(8, 5)
    assert float(kl_divergence(logits, logits)) == pytest.approx(0.0, abs=1e-6)
    assert float(kl_divergence(logits, _randn(8, 5, seed=3))) > 0.1


def test_divergence_leaves_out_what_the_mask_does():
    student, teacher = _randn(3, 4), _randn(3, 4, seed=1)
    mask = torch.tensor([True, False, True])
    alone = kl_divergence(student[mask], teacher[mask])
    assert float(kl_divergence(student, teacher, mask=mask)) == pytest.approx(float(alone), rel=1e-6)
    assert float(kl_divergence(student, teacher, mask=torch.zeros(3, dtype=torch.bool))) == 0.0


def _output(**arrays):
    return ModelOutput(arrays)


_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("task", "problem", "names", "shape"),
    [
        (Task.TEXT_CLASSIFICATION, "single_label_classification", ["logits"], (2, 3)),
        (Task.TEXT_CLASSIFICATION, "multi_label_classification", ["logits"], (2, 3)),
        (Task.TEXT_CLASSIFICATION, "regression", ["logits"], (2, 1)),
        (Task.TEXT_CLASSIFICATION, "ranking", ["logits"], (2, 1)),
        (Task.MULTIPLE_CHOICE, None, ["logits"], (2, 4)),
        (Task.TOKEN_CLASSIFICATION, None, ["logits"], (2, 4, 3)),
        (Task.QUESTION_ANSWERING, None, ["start_logits", "end_logits"], (2, 4)),
    ],
)
def test_every_task_has_a_loss_that_teaches_the_student_alone(task, problem, names, shape):
    student = _output(**{name: _randn(*shape, seed=number, grad=True) for number, name in enumerate(names)})
    teacher = _output(**{name: _randn(*shape, seed=9 + number, grad=True) for number, name in enumerate(names)})
    loss = distil(task, problem, student, teacher, {"attention_mask": _MASK}, temperature=1.0)
    loss.backward()
    assert loss.item() > 0
    assert all(float(student[name].grad.abs().sum()) > 0 for name in names)
    assert all(teacher[name].grad is None for name in names)
    same = distil(task, problem, student, student, {"attention_mask": _MASK}, temperature=1.0)
    assert same.item() == pytest.approx(0.0, abs=1e-6)


def test_spans_have_no_part_in_padding():
    shape = (2, 4)
    student, teacher = (
        _output(start_logits=_randn(*shape, seed=seed), end_logits=_randn(*shape, seed=seed + 1)) for seed in (0, 5)
    )
    found = distil(Task.QUESTION_ANSWERING, None, student, teacher, {"attention_mask": _MASK}, temperature=1.0)
    plain = sum(
        _plain_kl(student[name][:1], teacher[name][:1], 1.0)
        + _plain_kl(student[name][1:, :2], teacher[name][1:, :2], 1.0)
        for name in ("start_logits", "end_logits")
    )
    assert float(found) == pytest.approx(plain / 4, rel=1e-5)


def test_tokens_without_label_have_no_part():
    student, teacher = _output(logits=_randn(1, 3, 2)), _output(logits=_randn(1, 3, 2, seed=1))
    inputs = {"attention_mask": torch.ones(1, 3, dtype=torch.long), "labels": torch.tensor([[-100, 1, -100]])}
    found = distil(Task.TOKEN_CLASSIFICATION, None, student, teacher, inputs, temperature=1.0)
    assert float(found) == pytest.approx(_plain_kl(student.logits[0, 1:2], teacher.logits[0, 1:2], 1.0), rel=1e-5)


def test_multi_label_divergence_is_of_each_label_by_itself():
    student, teacher = torch.tensor([[0.3, -1.0]]), torch.tensor([[2.0, 0.5]])
    student, teacher = torch.tensor([[0.3, -1.0]]), torch.tensor([[2.0, 0.5]])
    outputs = (_output(logits=logits) for logits in (student, teacher))
    found = distil(Task.TEXT_CLASSIFICATION, "multi_label_classification", *outputs, {}, temperature=1.0)
    p, q = teacher.sigmoid().double(), student.sigmoid().double()
    plain = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert float(found) == pytest.approx(float(plain.mean()), rel=1e-5)


def test_hidden_states_leave_padding_out():
    student, teacher = _randn(2, 4, 3), _randn(2, 4, 3, seed=1)
    plain = functional.mse_loss(student[_MASK.bool()], teacher[_MASK.bool()])
    assert float(hidden_state_loss(student, teacher, _MASK)) == pytest.approx(float(plain), rel=1e-5)


def test_embeddings_are_compared_by_angle():
    wanted = _randn(4, 8)
    assert float(embedding_loss(3.0 * wanted, wanted, similarity_weight=1.0)) == pytest.approx(0.0, abs=1e-5)
    assert float(embedding_loss(-wanted, wanted, similarity_weight=0.0)) == pytest.approx(2.0, rel=1e-5)


def test_similarities_tell_embeddings_apart_that_have_one_angle_to_theirs():
    wanted = functional.normalize(_randn(6, 8), dim=1)
    turned = functional.normalize(wanted + 0.5 * _randn(6, 8, seed=1), dim=1)
    alone = embedding_loss(turned, wanted, similarity_weight=0.0)
    assert float(embedding_loss(turned, wanted, similarity_weight=1.0)) > float(alone)
    few = embedding_loss(turned[:2], wanted[:2], similarity_weight=1.0)
    assert float(few) == pytest.approx(float(embedding_loss(turned[:2], wanted[:2], similarity_weight=0.0)))


def test_contrastive_loss_is_least_for_each_own_partner():
    texts = functional.normalize(_randn(5, 16), dim=1)
    assert float(contrastive_loss(texts, texts)) < float(contrastive_loss(texts, texts.roll(1, dims=0)))
