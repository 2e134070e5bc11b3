"""The gate on answers: what is compared with what, what misses, and what a miss says."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Precision, Task
from dynbert_export.data.prepared import EvaluationData
from dynbert_export.errors import GateError
from dynbert_export.evaluation.agreement import AnswerMeasure
from dynbert_export.gates.answers import AnswerGate
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.variants import list_variants
from tests.helpers.graphs import make_feed, parse_graph

_VARIANTS = list_variants((NamedLengths("fast", LengthConfig((2,))),), num_layers=1)
_FEEDS = tuple(make_feed(1, tokens, vocab_size=9, seed=tokens) for tokens in (3, 5, 8))
_SCORES = """(int64[b, n] input_ids{more}) => (float[b, k] logits) {{
    rows = Gather (table, input_ids)
    logits = ReduceMean <axes = [1], keepdims = 0> (rows)
}}"""


def _gate(least=0.9):
    evaluation = EvaluationData(_FEEDS, samples=3, name="texts, 3 held out")
    measure = AnswerMeasure(Task.TEXT_CLASSIFICATION)
    return AnswerGate(_VARIANTS, evaluation, measure, least=least, always_keep_cls_token=True, threads=1)


def _write(folder, precision, **tables):
    """Write a graph a variant that scores texts by a table of numbers; ``tables`` gives some of them another one."""
    table = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32) * 9
    files = {}
    for variant in _VARIANTS:
        files[variant.name] = folder / f"{variant.name}.{precision.value}.onnx"
        more = ", int64[1] length_config" if variant.is_anytime else ""
        ir.save(parse_graph(_SCORES.format(more=more), table=tables.get(variant.name, table)), files[variant.name])
    return files


def _judge(folder, **tables):
    gate = _gate()
    references = gate.answer(_write(folder, Precision.FP32))
    files = _write(folder, Precision.INT8, **tables)
    return gate, files, gate.judge(files, Precision.INT8, references)


def test_fp32_graphs_have_a_quality_and_no_agreement(tmp_path):
    gate, files = _gate(), _write(tmp_path, Precision.FP32)
    references = gate.answer(files)
    answers = gate.judge(files, Precision.FP32, references)
    assert list(references) == ["full", "fast", "anytime"]
    assert [len(outputs) for outputs in references.values()] == [3, 3, 3]
    assert (answers.agreements, answers.misses) == ({}, ())
    assert list(answers.qualities) == [files["full"], files["fast"]], "anytime has no lengths of its own"
    assert {(found.value, found.samples, found.data) for found in answers.qualities.values()} == {
        (1.0, 3, "texts, 3 held out")
    }


def test_equal_int8_graphs_agree(tmp_path):
    gate, files, answers = _judge(tmp_path)
    assert {path: found.value for path, found in answers.agreements.items()} == dict.fromkeys(files.values(), 1.0)
    assert {found.max_abs_difference for found in answers.agreements.values()} == {0.0}
    gate.check(answers)


@pytest.mark.parametrize("spoil", [np.negative, lambda table: table * np.nan], ids=["reversed", "no numbers"])
def test_an_int8_graph_that_answers_otherwise_misses_and_is_named(tmp_path, spoil):
    table = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32) * 9
    gate, files, answers = _judge(tmp_path, fast=spoil(table))
    assert answers.agreements[files["full"]].value == 1.0
    [miss] = answers.misses
    assert re.fullmatch(r"fast\.int8\.onnx (0\.\d{4}|nan)", miss)
    message = rf"at least 0\.9 \(label_agreement on texts, 3 held out\), got {re.escape(miss)}, whatever was done\. Cal"
    with pytest.raises(GateError, match=message):
        gate.check(answers, remark=", whatever was done")


def test_answers_of_two_sets_are_joined(tmp_path):
    gate, files, int8 = _judge(tmp_path)
    fp32_files = _write(tmp_path, Precision.FP32)
    joined = gate.judge(fp32_files, Precision.FP32, gate.answer(fp32_files)).joined(int8)
    assert set(joined.agreements) == set(files.values())
    assert len(joined.qualities) == 4
