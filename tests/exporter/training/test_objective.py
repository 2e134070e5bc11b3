"""The loss of a batch is made of what it should be: each model runs once, on the lengths drawn, and is taught."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import BertConfig

from dynbert.lengths import LengthConfig
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export import modeling
from dynbert_export.modeling.heads.sentence_embedding import pool_states
from dynbert_export.training.distillation import contrastive_loss, embedding_loss, kl_divergence
from dynbert_export.training.length_drop import DroppedModel, LengthDrop, sample_dropped
from dynbert_export.training.objective import PAIR_PREFIX, Distillation, EmbeddingLosses, LabelLosses, Objective

_DROP = LengthDrop(ratio_bound=0.3, random_models=2)
_MEAN, _CLS = Pooling(mode=PoolingMode.MEAN, normalize=False), Pooling(mode=PoolingMode.CLS, normalize=True)


def _model(name, *, seed=0, **config):
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 32,
        "initializer_range": 0.3,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    options = {"add_pooling_layer": False} if name == "BertModel" else {}
    return getattr(modeling, name)(BertConfig(**settings | config), **options).train()


def _inputs(*shape, seed=0, **labels):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(*shape, dtype=torch.long)
    mask[0, ..., -3:] = 0
    ids = torch.randint(1, 50, shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids), **labels}


def _labels(task=Task.TEXT_CLASSIFICATION, problem=None, **options):
    return LabelLosses(task, problem, Distillation(**options))


@pytest.fixture
def calls(monkeypatch):
    """Hold the arguments of every run of a model."""
    made = []
    real = modeling.BertModel.forward

    def forward(self, *arguments, **options):
        made.append((self, options))
        return real(self, *arguments, **options)

    monkeypatch.setattr(modeling.BertModel, "forward", forward)
    return made


def test_a_step_is_the_full_loss_and_what_each_drawn_model_learns():
    model, inputs = _model("BertForSequenceClassification"), _inputs(4, 12, labels=torch.tensor([0, 1, 1, 0]))
    step = Objective(_labels(), _DROP, 3, seed=5, weight=0.5)(model, inputs, place=(7, 1))
    given = {name: tensor for name, tensor in inputs.items() if name != "labels"}
    full = model(**inputs)
    models = sample_dropped(12, 3, _DROP, seed=(5, 7, 1))
    assert len(models) == 3
    learned = [kl_divergence(model(**given, length_config=each.lengths).logits, full.logits) for each in models]
    torch.testing.assert_close(step.loss, full.loss + 0.5 * sum(learned))
    assert min(learned) > 1e-5
    assert step.full_output.logits.equal(full.logits)
    torch.testing.assert_close(step.parts, {"full_loss": full.loss.detach(), "smallest_loss": learned[0].detach()})


def test_labels_reach_the_full_model_alone(calls):
    model, inputs = _model("BertForSequenceClassification"), _inputs(4, 12, labels=torch.tensor([0, 1, 1, 0]))
    seen = []
    model.register_forward_pre_hook(lambda _, __, options: seen.append(sorted(options)), with_kwargs=True)
    Objective(_labels(), _DROP, 3, seed=0, weight=1.0)(model, inputs, place=(0, 0))
    assert ["labels" in names for names in seen] == [True, False, False, False]
    assert calls[0][1]["length_config"] == ()


def test_the_full_model_drops_nothing_whatever_it_is_set_to():
    model, inputs = _model("BertForSequenceClassification"), _inputs(2, 12, labels=torch.tensor([0, 1]))
    expected, _ = _labels().full(model, inputs)
    model.set_length_config([3, 2, 1])
    assert _labels().full(model, inputs)[0].equal(expected)


def test_a_plain_step_is_the_full_loss():
    model, inputs = _model("BertForSequenceClassification"), _inputs(2, 12, labels=torch.tensor([0, 1]))
    step = Objective(_labels(), _DROP, 3, seed=0, weight=1.0)(model, inputs, place=(0, 0), is_plain=True)
    assert (step.loss.equal(model(**inputs).loss), step.parts) == (True, {})


def test_the_full_model_learns_nothing_from_the_dropped_ones():
    """Not even where its own loss is nothing: the teacher's side has no gradient."""
    model, inputs = _model("BertForSequenceClassification"), _inputs(2, 12, labels=torch.tensor([0, 1]))
    losses = _labels()
    _, full = losses.full(model, inputs)
    full.logits.retain_grad()
    losses.dropped(model, inputs, DroppedModel(LengthConfig((6, 4, 2))), full).backward()
    assert full.logits.grad is None


def test_layers_are_left_out_as_drawn():
    model, inputs = _model("BertForSequenceClassification"), _inputs(2, 12, labels=torch.tensor([0, 1]))
    losses = _labels()
    _, full = losses.full(model, inputs)
    small = DroppedModel(LengthConfig((8, 6, 4)), (0, 2))
    given = {name: tensor for name, tensor in inputs.items() if name != "labels"}
    expected = kl_divergence(model(**given, length_config=(8, 6, 4), layer_config=(0, 2)).logits, full.logits)
    torch.testing.assert_close(losses.dropped(model, inputs, small, full), expected)
    assert not losses.dropped(model, inputs, replace(small, layers=None), full).equal(expected)


def test_a_teacher_takes_its_share_of_the_full_loss():
    model, inputs = _model("BertForSequenceClassification"), _inputs(2, 12, labels=torch.tensor([0, 1]))
    teacher = _model("BertForSequenceClassification", seed=1, num_hidden_layers=2).eval()
    losses = LabelLosses(
        Task.TEXT_CLASSIFICATION, None, Distillation(teacher_weight=0.25, temperature=2.0), True, teacher
    )
    found, output = losses.full(model, inputs)
    given = {name: tensor for name, tensor in inputs.items() if name != "labels"}
    taught = kl_divergence(output.logits, teacher(**given).logits, temperature=2.0)
    torch.testing.assert_close(found, 0.75 * output.loss + 0.25 * taught)
    found.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize(
    ("name", "task", "inputs"),
    [
        ("BertForSequenceClassification", Task.TEXT_CLASSIFICATION, _inputs(2, 12, labels=torch.tensor([0, 1]))),
        ("BertForMultipleChoice", Task.MULTIPLE_CHOICE, _inputs(2, 3, 12, labels=torch.tensor([2, 1]))),
        ("BertForTokenClassification", Task.TOKEN_CLASSIFICATION, _inputs(2, 12, labels=torch.ones(2, 12).long())),
        (
            "BertForQuestionAnswering",
            Task.QUESTION_ANSWERING,
            _inputs(2, 12, start_positions=torch.tensor([1, 2]), end_positions=torch.tensor([3, 4])),
        ),
    ],
)
def test_token_states_are_compared_where_they_were_kept(name, task, inputs):
    model = _model(name)
    small = DroppedModel(LengthConfig((9, 7, 5)))
    found = []
    for weight in (0.0, 2.0):
        losses = _labels(task, hidden_weight=weight)
        _, full = losses.full(model, inputs)
        found.append(losses.dropped(model, inputs, small, full))
    given = {key: value for key, value in inputs.items() if key in {"input_ids", "attention_mask", "token_type_ids"}}
    whole = model(**given, output_hidden_states=True)
    dropped = model(**given, length_config=(9, 7, 5), output_hidden_states=True)
    errors = []
    for row, kept in enumerate(dropped.kept_positions[-1]):
        mask = inputs["attention_mask"].flatten(0, -2)[row]
        for index, position in enumerate(kept.tolist()):
            if mask[position]:
                errors.append(
                    (dropped.hidden_states[-1][row, index] - whole.hidden_states[-1][row, position]).square().mean()
                )
    torch.testing.assert_close(found[1] - found[0], 2.0 * torch.stack(errors).mean(), rtol=1e-4, atol=1e-6)
    assert found[1].item() > found[0].item() + 1e-3


def test_a_ranking_is_trained_by_its_lone_logit():
    model = _model("BertForSequenceClassification", num_labels=1)
    inputs = _inputs(3, 12, labels=torch.tensor([0.0, 0.4, 1.0]))
    losses = _labels(problem="ranking")
    loss, output = losses.full(model, inputs)
    expected = functional.binary_cross_entropy(output.logits.sigmoid().view(-1), inputs["labels"])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(losses.answer(model, inputs)[0], expected)


def _embedding_losses(teacher, **options):
    return EmbeddingLosses(_MEAN, Distillation(**options), teacher, _MEAN)


def _embed(model, inputs, lengths=(), pooling=_MEAN):
    output = model(**inputs, length_config=lengths, output_hidden_states=True)
    return pool_states(output, inputs["attention_mask"], pooling)


def test_embeddings_are_taught_by_the_teacher_alone():
    model, teacher = _model("BertModel"), _model("BertModel", seed=1).eval()
    inputs = _inputs(4, 12)
    losses = _embedding_losses(teacher, similarity_weight=0.5)
    loss, wanted = losses.full(model, inputs)
    torch.testing.assert_close(wanted[0], _embed(teacher, inputs))
    torch.testing.assert_close(loss, embedding_loss(_embed(model, inputs), wanted[0], similarity_weight=0.5))
    small = DroppedModel(LengthConfig((9, 7, 5)))
    expected = embedding_loss(_embed(model, inputs, (9, 7, 5)), wanted[0], similarity_weight=0.5)
    torch.testing.assert_close(losses.dropped(model, inputs, small, wanted), expected)
    assert not wanted[0].requires_grad


def test_a_teacher_of_embeddings_pools_in_its_own_way():
    model, teacher, inputs = _model("BertModel"), _model("BertModel", seed=1).eval(), _inputs(4, 12)
    losses = EmbeddingLosses(_MEAN, Distillation(), teacher, _CLS)
    torch.testing.assert_close(losses.full(model, inputs)[1][0], _embed(teacher, inputs, pooling=_CLS))
    _, got, wanted = losses.predict(model.eval(), inputs)
    torch.testing.assert_close((got[0], wanted[0]), (_embed(model, inputs), _embed(teacher, inputs, pooling=_CLS)))


@pytest.mark.parametrize(("partner", "lengths"), [(24, (18, 14, 10)), (12, (9, 7, 5)), (5, (4, 3, 3)), (2, (2, 2, 2))])
def test_partners_keep_the_same_shares_of_their_own_length(calls, partner, lengths):
    model, teacher = _model("BertModel"), _model("BertModel", seed=1).eval()
    texts, partners = _inputs(4, 12), _inputs(4, partner + 3, seed=1)
    partners = {name: tensor[:, :partner] for name, tensor in partners.items()}
    inputs = texts | {PAIR_PREFIX + name: tensor for name, tensor in partners.items()}
    losses = _embedding_losses(teacher, similarity_weight=0.0, contrastive_weight=2.0)
    _, wanted = losses.full(model, inputs)
    calls.clear()
    found = losses.dropped(model, inputs, DroppedModel(LengthConfig((9, 7, 5))), wanted)
    assert [options["length_config"].lengths for _, options in calls] == [(9, 7, 5), lengths]
    got = [_embed(model, texts, (9, 7, 5)), _embed(model, partners, lengths)]
    apart = [embedding_loss(ours, theirs, similarity_weight=0.0) for ours, theirs in zip(got, wanted, strict=True)]
    torch.testing.assert_close(found, sum(apart) / 2 + 2.0 * contrastive_loss(*got))


def test_equal_places_draw_equal_models_and_others_do_not():
    model, inputs = _model("BertForSequenceClassification"), _inputs(2, 24, labels=torch.tensor([0, 1]))
    objective = Objective(_labels(), LengthDrop(ratio_bound=0.6), 3, seed=0, weight=1.0)
    losses = [objective(model, inputs, place=place).loss.item() for place in ((3, 0), (3, 0), (3, 1), (4, 0))]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3
