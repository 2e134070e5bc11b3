"""The order of the stages: what is checked first, what each stage gets, and that no gate can be passed by."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import onnx_ir as ir
import pytest
import torch

from dynbert.errors import InputError
from dynbert.manifest import Target, Task
from dynbert_export.errors import CheckpointError, GateError
from dynbert_export.int8 import choose
from dynbert_export.int8.neural_compressor import NeuralCompressor
from dynbert_export.int8.ranges import Range
from dynbert_export.int8.scores import quantize_scores
from dynbert_export.options.config import make_config
from dynbert_export.pipeline import export_bundle
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.graphs import count_operators
from tests.helpers.tasks import EVERY_TASK

_STAGES = [
    "check",
    "trace",
    "specialise fp32",
    "verify fp32 against PyTorch",
    "answer in fp32",
    "quantise (static)",
    "specialise int8",
    "verify int8 kernels",
    "compare answers",
    "verify int8 invariance",
    "measure latency",
    "publish",
]


_GATES = ("int8_min_cosine", "int8_min_label_agreement", "int8_min_span_agreement")


class _Recorder:
    """A progress listener that keeps what it was told."""

    def __init__(self):
        self.stages, self.notes, self.torch_threads = [], [], set()

    @contextlib.contextmanager
    def stage(self, name):
        self.stages.append(name)
        yield
        self.torch_threads.add(torch.get_num_threads())

    def note(self, message):
        self.notes.append(message)


class _Engine(NeuralCompressor):
    """The real engine; keeps what it was asked, and may give something else back."""

    def __init__(self, *, replace=None):
        super().__init__()
        object.__setattr__(self, "calls", [])
        object.__setattr__(self, "replace", replace)

    def smooth(self, model, feeds, *, alpha):
        self.calls.append(("smooth", feeds, alpha))
        return super().smooth(model, feeds, alpha=alpha)

    def quantize_static(self, model, feeds, *, reduce_range):
        self.calls.append(("static", feeds, reduce_range))
        return self.replace(model) if self.replace else super().quantize_static(model, feeds, reduce_range=reduce_range)

    def quantize_dynamic(self, model, *, reduce_range):
        self.calls.append(("dynamic", (), reduce_range))
        return self.replace(model) if self.replace else super().quantize_dynamic(model, reduce_range=reduce_range)


def _config(traced, output, **options):
    return make_config({"model": str(traced.checkpoint.folder), "output": output, "threads": 1, **options})


def test_stages_come_in_their_order(traced_embedder, tmp_path):
    progress, engine = _Recorder(), _Engine()
    config = _config(traced_embedder, tmp_path / "out", profiles={"fast": [20, 10, 5]}, smooth_quant_alpha=0.6)
    result = export_bundle(config, progress=progress, engine=engine)
    assert progress.stages == _STAGES
    # no sentence-transformers files, the built-in texts, and which ranges were chosen
    assert len(progress.notes) == 3
    assert "smoothing 0.6, chosen by the error of answers" in progress.notes[-1]
    assert result.bundle == tmp_path / "out"
    assert [latency.tokens for latency in result.baseline] == [16, 32, 64]
    (smooth, feeds, alpha), (static, same_feeds, reduce_range) = engine.calls
    assert (smooth, static, alpha, reduce_range) == ("smooth", "static", 0.6, False)
    for feed in (*feeds, *same_feeds):
        np.testing.assert_array_equal(feed["length_config"], [feed["input_ids"].shape[1]] * 3)


@pytest.mark.parametrize(
    ("target", "reduce_range"), [("auto", False), ("amx", False), ("arm64", False), ("avx2", True)]
)
def test_target_decides_the_range_of_the_weights(traced_embedder, tmp_path, target, reduce_range):
    engine = _Engine(replace=lambda model: model)
    config = _config(traced_embedder, tmp_path / "out", quantize="dynamic", target=target)
    with pytest.raises(GateError):
        export_bundle(config, engine=engine)
    assert engine.calls == [("dynamic", (), reduce_range)]


@pytest.mark.slow
def test_smoothing_is_shared_and_each_number_range_quantised_once(traced_embedder, tmp_path):
    progress, engine = _Recorder(), _Engine()
    config = _config(traced_embedder, tmp_path / "out", target=["vnni", "amx", "avx2", "arm64"])
    manifest = export_bundle(config, progress=progress, engine=engine).manifest
    assert [(name, rest) for name, _, rest in engine.calls] == [("smooth", 0.7), ("static", False), ("static", True)]
    assert {graph.file: graph.target for graph in manifest.graphs} == {
        "full.int8.onnx": Target.VNNI,
        "full.int8-avx2.onnx": Target.AVX2,
        "anytime.int8.onnx": Target.VNNI,
        "anytime.int8-avx2.onnx": Target.AVX2,
    }
    assert [note for note in progress.notes if "one set" in note] == [
        "amx computes with the numbers of vnni: one set of INT8 graphs serves both.",
        "arm64 computes with the numbers of vnni: one set of INT8 graphs serves both.",
    ]
    assert all(graph.invariance.inputs == 16 for graph in manifest.graphs)
    layers = traced_embedder.spec.num_layers
    for graph in manifest.graphs:  # scores are INT8 where the range is full
        products = count_operators(ir.load(tmp_path / "out" / graph.file))["MatMulIntegerToFloat"]
        assert products == (7 if graph.target is Target.VNNI else 6) * layers


def test_scores_stay_fp32_where_answers_suffer(traced_embedder, tmp_path, monkeypatch):
    def clip_nearly_everything(model, ranges):
        narrow = {name: tuple(Range(r.low / 50, r.high / 50) for r in pair) for name, pair in ranges.items()}
        return quantize_scores(model, narrow)

    monkeypatch.setattr(choose, "quantize_scores", clip_nearly_everything)
    progress = _Recorder()
    export_bundle(_config(traced_embedder, tmp_path / "out", target="vnni"), progress=progress)
    [note] = [note for note in progress.notes if "scores" in note]
    assert re.fullmatch(
        r"Attention scores stay fp32, chosen by the error of answers to calibration texts "
        r"\(fp32: [0-9.e-]+, INT8: [0-9.e-]+\)\.",
        note,
    )
    counts = count_operators(ir.load(tmp_path / "out" / "full.int8.onnx"))
    layers = traced_embedder.spec.num_layers
    assert (counts["MatMulIntegerToFloat"], counts["MultiHeadAttention"]) == (6 * layers, layers)


def test_dynamic_graphs_are_not_asked_for_invariance(traced_embedder, tmp_path):
    progress = _Recorder()
    config = _config(traced_embedder, tmp_path / "out", quantize="dynamic", gates={"int8_min_cosine": 0.5})
    manifest = export_bundle(config, progress=progress).manifest
    assert "verify int8 invariance" not in progress.stages
    assert {graph.invariance for graph in manifest.graphs} == {None}


def test_static_graph_that_depends_on_its_batch_fails_the_gate(traced_embedder, tmp_path):
    def quantize_at_run_time(model):
        return NeuralCompressor().quantize_dynamic(model, reduce_range=False)

    with pytest.raises(GateError, match=r"full\.int8\.onnx must answer the same to a text alone and in a batch of 8"):
        export_bundle(_config(traced_embedder, tmp_path / "out"), engine=_Engine(replace=quantize_at_run_time))
    assert list(tmp_path.iterdir()) == []


def test_full_range_fails_the_gate_when_the_target_is_avx2(traced_embedder, tmp_path):
    def ignore_the_range(model):
        return NeuralCompressor().quantize_dynamic(model, reduce_range=False)

    config = _config(traced_embedder, tmp_path / "out", quantize="dynamic", target="avx2")
    with pytest.raises(GateError, match=r"full\.int8\.onnx: any two s8 weights .* at most 128 for avx2, got"):
        export_bundle(config, engine=_Engine(replace=ignore_the_range))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quantize", ["static", "dynamic"])
def test_engine_that_does_not_quantise_fails_the_gate(traced_embedder, tmp_path, quantize):
    config = _config(traced_embedder, tmp_path / "out", quantize=quantize)
    with pytest.raises(GateError, match=r"full\.int8\.onnx must run 18 products as INT8, got: 0 INT8 products"):
        export_bundle(config, engine=_Engine(replace=lambda model: model))
    assert list(tmp_path.iterdir()) == []


def _spoil(scale, *, reduce_range=False):
    """Quantise, and then change a scale of a weight."""

    def replace(model):
        quantized = NeuralCompressor().quantize_dynamic(model, reduce_range=reduce_range)
        for name, value in quantized.graph.initializers.items():
            if name.endswith("_scale") and value.const_value.numpy().size == 64:
                value.const_value = ir.Tensor(value.const_value.numpy() * np.float32(scale), name=name)
        return quantized

    return replace


@pytest.mark.parametrize("scale", [-20.0, pytest.param(np.nan, marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", EVERY_TASK)
def test_wrong_int8_answers_fail_the_gate(traced_models, tmp_path, task, scale):
    gates = {"max_fp32_share": 0}
    config = _config(traced_models[task], tmp_path / "out", quantize="dynamic", gates=gates)
    # Where nothing is dropped, the choices of random weights are all but equally good, and stay so.
    files = r"anytime\.int8\.onnx" if task is Task.MULTIPLE_CHOICE else r"full\.int8\.onnx .*anytime\.int8\.onnx"
    message = rf"INT8 graphs must agree with fp32 by at least 0\.9.*got .*{files}"
    with pytest.raises(GateError, match=message):
        export_bundle(config, engine=_Engine(replace=_spoil(scale)))
    assert list(tmp_path.iterdir()) == []


_FORGIVING = {
    Task.TEXT_CLASSIFICATION,
    Task.TOKEN_CLASSIFICATION,
    Task.NEXT_SENTENCE_PREDICTION,
    Task.MULTIPLE_CHOICE,
}


@pytest.mark.parametrize("scale", [-20.0, pytest.param(np.nan, marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", EVERY_TASK)
def test_products_to_blame_are_named_and_stay_fp32(traced_models, tmp_path, task, scale):
    progress = _Recorder()
    # Exact on every CPU; but choices in the reduced range bear what is done to them here.
    target = "vnni" if task is Task.MULTIPLE_CHOICE else "avx2"
    options = {"quantize": "dynamic", "target": target, "gates": dict.fromkeys(_GATES, 0.9)}
    config = _config(traced_models[task], tmp_path / "out", **options)
    engine = _Engine(replace=_spoil(scale, reduce_range=target == "avx2"))
    result = export_bundle(config, progress=progress, engine=engine)
    spoiled = tuple(f"bert.encoder.layer.{layer}.intermediate.dense" for layer in range(3))
    names = result.manifest.graphs[0].fp32_products
    assert set(names) <= set(spoiled), "none but those to blame"
    if np.isnan(scale) or task not in _FORGIVING:
        assert names == spoiled
    else:  # for choices among few that random weights find equally good, fewer may be enough for the gate
        assert names
    assert progress.stages[-3:] == ["put products back to fp32", "measure latency", "publish"]
    assert progress.notes[-1].endswith(f"more than the gate allows: {', '.join(names)}.")
    for graph in result.manifest.graphs:
        assert graph.fp32_products == names
        assert graph.agreement.value >= 0.9
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(f"- `{name}`" in card for name in names)


@pytest.mark.parametrize(
    ("problem_type", "metric"),
    [
        (None, "rank_correlation"),
        pytest.param("regression", "closeness", marks=pytest.mark.slow),
        pytest.param("multi_label_classification", "label_agreement", marks=pytest.mark.slow),
    ],
)
def test_one_logit_is_judged_by_what_it_means(tmp_path, problem_type, metric):
    config = {} if problem_type is None else {"problem_type": problem_type}
    model = make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION, labels=("score",), **config)
    options = make_config({"model": str(model), "output": tmp_path / "out", "threads": 1, "target": "avx2"})
    manifest = export_bundle(options).manifest
    assert {graph.agreement.metric for graph in manifest.graphs} == {metric}
    assert {graph.quality.metric for graph in manifest.graphs if graph.quality} == {metric}
    assert all(0.9 <= graph.agreement.value <= 1 for graph in manifest.graphs)


def test_a_scrambled_ranking_fails_its_gate(tmp_path):
    model = make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION, labels=("score",))
    given = {"model": str(model), "output": tmp_path / "out", "threads": 1, "quantize": "dynamic"}
    config = make_config({**given, "gates": {"max_fp32_share": 0, "int8_min_rank_correlation": 0.8}})
    message = r"agree with fp32 by at least 0\.8 \(rank_correlation on built-in, \d+ held out\), got full\.int8\.onnx"
    with pytest.raises(GateError, match=message):
        export_bundle(config, engine=_Engine(replace=_spoil(-20.0)))


def test_fallback_ends_at_its_limit_with_the_numbers(traced_embedder, tmp_path):
    config = _config(traced_embedder, tmp_path / "out", quantize="dynamic", gates={"max_fp32_share": 0.14})
    message = (
        r"INT8 graphs must agree with fp32 by at least 0\.97 .*got full\.int8\.onnx .* even with 2 of 18 products in "
        r"fp32, bert\.encoder\.layer\.\d\.intermediate\.dense, .* first \(max_fp32_share 0\.14\)\. Calibrate on"
    )
    with pytest.raises(GateError, match=message):
        export_bundle(config, engine=_Engine(replace=_spoil(-20.0)))
    assert list(tmp_path.iterdir()) == []


def test_output_is_refused_before_the_model_is_read(traced_embedder, tmp_path):
    (tmp_path / "out").write_text("a file")
    progress = _Recorder()
    config = _config(traced_embedder, tmp_path / "out", model=str(tmp_path / "missing"))
    with pytest.raises(InputError, match="Output must be"):
        export_bundle(config, progress=progress)
    assert progress.stages == []


def test_model_is_refused_before_anything_is_written(traced_embedder, tmp_path):
    progress = _Recorder()
    config = _config(traced_embedder, tmp_path / "a" / "out", model=str(tmp_path / "missing"))
    with pytest.raises(CheckpointError):
        export_bundle(config, progress=progress)
    assert progress.stages == ["check"]
    assert list(tmp_path.iterdir()) == []


def test_torch_threads_are_put_back(traced_embedder, tmp_path):
    before = torch.get_num_threads()
    progress = _Recorder()
    options = {"quantize": "none", "max_length": 8, "threads": before + 1}
    export_bundle(_config(traced_embedder, tmp_path / "out", **options), progress=progress)
    assert progress.torch_threads == {before, before + 1}
    assert torch.get_num_threads() == before
    config = _config(traced_embedder, tmp_path / "failed", gates={"fp32_max_abs_difference": 1e-12}, **options)
    with pytest.raises(GateError):
        export_bundle(config)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("alpha", ["none", pytest.param("auto", marks=pytest.mark.slow)])
def test_export_without_smoothing(traced_embedder, tmp_path, alpha):
    progress = _Recorder()
    config = _config(traced_embedder, tmp_path / "out", smooth_quant_alpha=alpha, target="avx2")
    manifest = export_bundle(config, progress=progress).manifest
    assert {graph.profile: graph.fp32_products for graph in manifest.graphs} == {"full": (), "anytime": ()}
    [note] = [note for note in progress.notes if note.startswith("INT8 activations have")]
    assert "minmax ranges, no smoothing: 0." in note
