"""sentence-transformers' files: what is read from them, and which embeddings are refused."""

from __future__ import annotations

import json

import pytest

from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export.checkpoint.embedding_files import PackageSettings
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.errors import CheckpointError
from tests.helpers.checkpoints import edit_json, make_checkpoint, write_sentence_transformers_files


@pytest.fixture
def embedder(tmp_path):
    """A feature extraction checkpoint of the test's own."""
    return make_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(
    ("mode", "normalize", "expected"),
    [
        ("mean_tokens", True, Pooling(mode=PoolingMode.MEAN, normalize=True)),
        ("cls_token", False, Pooling(mode=PoolingMode.CLS, normalize=False)),
    ],
)
def test_sentence_transformers_files_decide_the_pooling(embedder, mode, normalize, expected):
    write_sentence_transformers_files(embedder, mode=mode, normalize=normalize)
    edit_json(embedder / "config.json", architectures=["BertForMaskedLM"])  # as some of these models have
    checkpoint = load_checkpoint(str(embedder))
    assert (checkpoint.task, checkpoint.pooling, checkpoint.notes) == (Task.FEATURE_EXTRACTION, expected, ())


def test_files_that_the_current_sentence_transformers_writes_are_read(embedder, tmp_path):
    import sentence_transformers

    write_sentence_transformers_files(embedder, mode="cls_token", max_length=40)
    sentence_transformers.SentenceTransformer(str(embedder), device="cpu").save(str(tmp_path / "saved"))
    checkpoint = load_checkpoint(str(tmp_path / "saved"))
    assert checkpoint.pooling == Pooling(mode=PoolingMode.CLS, normalize=True)
    assert checkpoint.max_length == 40


_PUTS = "sentence-transformers puts 'query: ' before every text of this model"
_QUERY = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}


@pytest.mark.parametrize(
    ("settings", "include_prompt", "notes"),
    [
        ({"prompts": {"query": "query: "}}, True, ()),
        ({"prompts": {"query": ""}, "default_prompt_name": "query"}, True, ()),
        (_QUERY, True, (f"{_PUTS}. A bundle does not: add it.",)),
        (_QUERY, False, (f"{_PUTS}, and leaves its tokens out of the pooling. A bundle does neither.",)),
        (
            {"truncate_dim": 16},
            True,
            ("sentence-transformers cuts this model's embeddings to 16 dimensions. A bundle does not: cut them.",),
        ),
    ],
)
def test_what_the_package_does_beside_embedding_is_told(embedder, settings, include_prompt, notes):
    write_sentence_transformers_files(embedder)
    (embedder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    edit_json(embedder / "1_Pooling" / "config.json", include_prompt=include_prompt)
    assert load_checkpoint(str(embedder)).notes == notes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, PackageSettings()),
        (_QUERY | {"similarity_fn_name": "dot", "truncate_dim": 8}, PackageSettings(*_QUERY.values(), True, "dot", 8)),
        ({"prompts": ["query: "], "default_prompt_name": "query"}, PackageSettings()),
        ({"prompts": {"query": 3, "other": "o: "}, "default_prompt_name": "query"}, PackageSettings({"other": "o: "})),
        ({"default_prompt_name": 3, "similarity_fn_name": "mine.run", "truncate_dim": -1}, PackageSettings()),
        ({"similarity_fn_name": ["dot"], "truncate_dim": True}, PackageSettings()),
    ],
)
def test_settings_of_the_package_are_kept_where_they_are_of_their_kind(embedder, settings, expected):
    write_sentence_transformers_files(embedder)
    (embedder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    assert load_checkpoint(str(embedder)).package == expected


_DENSE = {"type": "sentence_transformers.models.Dense", "path": "3_Dense"}
_TRANSFORMER = {"type": "sentence_transformers.models.Transformer", "path": ""}


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({}, "must hold a list of modules, got dict"),
        ([3], "must hold a list of modules"),
        ([], "must have a Transformer, a Pooling and maybe a Normalize, in this order, got none"),
        ([_TRANSFORMER], "got Transformer"),
        ([_TRANSFORMER, _DENSE], "got sentence_transformers.models.Dense. A bundle cannot compute this embedding"),
        ([_TRANSFORMER, {"type": "mine.Pooling", "path": "1_Pooling"}], "got mine.Pooling"),
        ([_TRANSFORMER, _TRANSFORMER], "must have one Transformer"),
        (
            [_TRANSFORMER, {"type": "sentence_transformers.models.Pooling", "path": "../1_Pooling"}],
            r"must name folders of the checkpoint, got '\.\./1_Pooling'",
        ),
        (
            [_TRANSFORMER, {"type": "sentence_transformers.models.Pooling"}],
            "must name folders of the checkpoint, got ''",
        ),
        (
            [_TRANSFORMER | {"path": "0_Transformer"}, {"type": "sentence_transformers.models.Pooling", "path": "1_P"}],
            "must have its Transformer in the same folder, got it in '0_Transformer'",
        ),
    ],
)
def test_embeddings_that_a_bundle_cannot_compute_are_refused(embedder, modules, message):
    write_sentence_transformers_files(embedder)
    (embedder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(embedder))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "Pooling must be mean or cls, got max"),
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "cls"]}, "got mean, cls"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "got mean_tokens, max_tokens"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length must be a whole number of tokens"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "got 'fill-mask'"),
    ],
)
def test_settings_of_embeddings_are_checked(embedder, file, values, message):
    write_sentence_transformers_files(embedder)
    edit_json(embedder / file, **values)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(embedder))
