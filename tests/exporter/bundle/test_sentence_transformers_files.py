"""The files for sentence-transformers: read back by the exporter's own reader, and what stands in them."""

from __future__ import annotations

import json

import pytest

from dynbert.manifest import Pooling, PoolingMode
from dynbert_export.bundle.sentence_transformers_files import write_sentence_transformers_files
from dynbert_export.checkpoint.embedding_files import PackageSettings, read_embedding_files

_SETTINGS = PackageSettings(
    prompts={"query": "query: ", "document": ""},
    default_prompt_name="query",
    include_prompt=False,
    similarity="dot",
    dimensions=16,
)


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("mode", list(PoolingMode))
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("settings", [PackageSettings(), _SETTINGS])
def test_what_is_written_is_read_as_what_it_was(tmp_path, mode, normalize, settings):
    pooling = Pooling(mode=mode, normalize=normalize)
    write_sentence_transformers_files(tmp_path, pooling, settings, dimensions=32, max_length=40)
    files = read_embedding_files(tmp_path)
    assert (files.pooling, files.package) == (pooling, settings)
    assert (files.max_length, files.lowercase) == (40, False)


def test_modules_name_no_class_but_the_package_s_and_normalize_last(tmp_path):
    pooling = Pooling(mode=PoolingMode.MEAN, normalize=True)
    write_sentence_transformers_files(tmp_path, pooling, PackageSettings(), dimensions=32, max_length=40)
    modules = [(module["type"], module["path"]) for module in _read(tmp_path / "modules.json")]
    assert modules == [
        ("sentence_transformers.models.Transformer", ""),
        ("sentence_transformers.models.Pooling", "1_Pooling"),
        ("sentence_transformers.models.Normalize", "2_Normalize"),
    ]
    assert not (tmp_path / "2_Normalize").exists()  # a manifest lists files, and there would be none in it


def test_settings_that_say_nothing_are_left_out_where_old_versions_do_not_know_them(tmp_path):
    pooling = Pooling(mode=PoolingMode.CLS, normalize=False)
    write_sentence_transformers_files(tmp_path, pooling, PackageSettings(), dimensions=32, max_length=40)
    assert _read(tmp_path / "1_Pooling" / "config.json") == {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    assert _read(tmp_path / "config_sentence_transformers.json") == {
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": None,
    }
