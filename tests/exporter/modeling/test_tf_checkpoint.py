"""TensorFlow 1 checkpoints: names and errors with a stand-in for TensorFlow, and files that TensorFlow itself wrote.

The tests marked ``tensorflow`` need the extra ``tf``: ``make test-tf`` runs them in an environment of its own.
"""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dynbert_export.errors import CheckpointError, MissingPackageError
from dynbert_export.modeling import (
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    load_tf_weights_in_bert,
)
from dynbert_export.modeling.tf_checkpoint import translate_tf_name
from tests.exporter.modeling.builders import make_config, make_inputs, make_model

TRAINING_STATE = {"global_step": np.array(7), "bert/pooler/dense/kernel/adam_m": np.zeros((32, 32), np.float32)}


def write_tf_names(model):
    """Return the arrays of a checkpoint as Google's BERT named and laid out its variables, and optimizer state."""
    arrays = dict(TRAINING_STATE)
    for name, parameter in model.named_parameters():
        array = parameter.detach().numpy()
        parts = name.replace("encoder.layer.", "encoder.layer_").split(".")
        owner, kind = parts[-2], parts[-1]
        if owner.endswith("_embeddings"):
            parts = parts[:-1]
        elif owner == "LayerNorm":
            parts[-1] = {"weight": "gamma", "bias": "beta"}[kind]
        elif owner == "predictions":
            parts[-1] = "output_bias"
        elif owner in {"seq_relationship", "qa_outputs", "classifier"}:
            parts[-1] = {"weight": "output_weights", "bias": "output_bias"}[kind]
            parts = {"qa_outputs": ["cls", "squad", parts[-1]], "classifier": parts[-1:]}.get(owner, parts)
        elif kind == "weight":
            parts[-1], array = "kernel", array.T
        arrays["/".join(parts)] = array
    return arrays


@pytest.fixture
def install_reader(monkeypatch):
    """Put a stand-in for TensorFlow in place that reads these arrays, whatever the path."""

    def install(arrays):
        def load_checkpoint(path):
            if arrays is None:
                raise ValueError(f"Couldn't find {path}")
            return SimpleNamespace(
                get_variable_to_shape_map=lambda: dict.fromkeys(arrays), get_tensor=arrays.__getitem__
            )

        fake = SimpleNamespace(
            train=SimpleNamespace(load_checkpoint=load_checkpoint), errors=SimpleNamespace(OpError=OSError)
        )
        monkeypatch.setitem(sys.modules, "tensorflow", fake)

    return install


@pytest.mark.parametrize(
    ("tf_name", "name"),
    [
        ("bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings.weight"),
        ("bert/embeddings/LayerNorm/gamma", "bert.embeddings.LayerNorm.weight"),
        ("bert/encoder/layer_11/attention/self/query/kernel", "bert.encoder.layer.11.attention.self.query.weight"),
        ("bert/encoder/layer_0/attention/output/dense/bias", "bert.encoder.layer.0.attention.output.dense.bias"),
        ("bert/encoder/layer_0/output/LayerNorm/beta", "bert.encoder.layer.0.output.LayerNorm.bias"),
        ("bert/pooler/dense/kernel", "bert.pooler.dense.weight"),
        ("cls/predictions/output_bias", "cls.predictions.bias"),
        ("cls/predictions/transform/LayerNorm/gamma", "cls.predictions.transform.LayerNorm.weight"),
        ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
        ("cls/squad/output_weights", "qa_outputs.weight"),
        ("output_bias", "classifier.bias"),
        ("global_step", None),
        ("bert/pooler/dense/kernel/adam_v", None),
        ("cls/predictions/output_bias/AdamWeightDecayOptimizer_1", None),
    ],
)
def test_names_are_translated(tf_name, name):
    assert translate_tf_name(tf_name) == name


@pytest.mark.parametrize(
    "model_class", [BertModel, BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification]
)
def test_every_weight_finds_its_place(model_class, install_reader, caplog):
    model = make_model(model_class)
    arrays = write_tf_names(model)
    if model_class is BertModel:  # there the names begin with bert/ all the same
        arrays = {name if name in TRAINING_STATE else f"bert/{name}": array for name, array in arrays.items()}
    install_reader(arrays)
    again = model_class(make_config())
    assert load_tf_weights_in_bert(again, again.config, "bert_model.ckpt") is again
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert not caplog.text


def test_checkpoint_of_another_head_is_reported(install_reader, caplog):
    model = make_model(BertForPreTraining)
    install_reader(write_tf_names(model))
    again = load_tf_weights_in_bert(BertForQuestionAnswering(make_config()), None, "bert_model.ckpt")
    torch.testing.assert_close(again.bert.embeddings.state_dict(), model.bert.embeddings.state_dict())
    unused, missing = (record.getMessage() for record in caplog.records)
    assert "were not used" in unused
    assert "cls/seq_relationship/output_weights" in unused
    assert missing.endswith("bert_model.ckpt: qa_outputs.bias, qa_outputs.weight")


def test_weights_of_another_shape_are_refused_together_and_change_nothing(install_reader):
    install_reader(write_tf_names(make_model(BertModel, intermediate_size=40)))
    model = make_model(BertModel)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"layer_0/intermediate/dense/bias is \[40\], .* \[48\]; .*layer_2"):
        load_tf_weights_in_bert(model, model.config, "bert_model.ckpt")
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"generator/dense/kernel": np.zeros((2, 2), np.float32)}, "must have the weights .* none of generator/dense"),
        (TRAINING_STATE, "must have the weights of this model, got none of its variables"),
        (None, r"must be the path of its files without \.index or \.data, got .*: Couldn't find"),
    ],
)
def test_checkpoint_without_a_bert_is_refused(arrays, message, install_reader):
    install_reader(arrays)
    model = make_model(BertModel)
    with pytest.raises(CheckpointError, match=message):
        load_tf_weights_in_bert(model, model.config, "bert_model.ckpt")


def test_missing_tensorflow_is_an_import_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    model = make_model(BertModel)
    with pytest.raises(ImportError, match=r"TensorFlow must be installed .* pip install 'dynbert\[tf\]'") as caught:
        load_tf_weights_in_bert(model, model.config, "bert_model.ckpt")
    assert caught.type is MissingPackageError


def test_from_tf_says_what_to_call_instead(tmp_path):
    (tmp_path / "bert_model.ckpt.index").touch()
    with pytest.raises(CheckpointError, match="Build the model from its config and call load_tf_weights_in_bert"):
        BertModel.from_pretrained(tmp_path / "bert_model.ckpt.index", from_tf=True, config=make_config())


def save_with_tensorflow(arrays, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own
        import tensorflow as tf
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, array in arrays.items():
            tf.compat.v1.get_variable(name, initializer=array, use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(path), write_meta_graph=False)


@pytest.mark.tensorflow
@pytest.mark.parametrize("model_class", [BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification])
@torch.no_grad()
def test_checkpoint_that_tensorflow_wrote_loads(model_class, tmp_path):
    model = make_model(model_class)
    save_with_tensorflow(write_tf_names(model), tmp_path / "bert_model.ckpt")
    assert (tmp_path / "bert_model.ckpt.index").is_file()
    inputs = make_inputs([9, 4])
    for path in (tmp_path / "bert_model.ckpt", tmp_path):
        again = load_tf_weights_in_bert(model_class(make_config()), model.config, path).eval()
        torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(again(**inputs).to_tuple(), model(**inputs).to_tuple())


@pytest.mark.tensorflow
def test_path_without_a_tensorflow_checkpoint_is_refused(tmp_path):
    model = make_model(BertModel)
    (tmp_path / "broken.ckpt.index").write_bytes(b"no checkpoint")
    for name in ("missing.ckpt", "broken.ckpt"):
        with pytest.raises(CheckpointError, match="must be the path of its files without"):
            load_tf_weights_in_bert(model, model.config, tmp_path / name)
