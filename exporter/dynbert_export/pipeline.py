"""The order of the stages, from a checked config to a published bundle; the work of each stands in its own module.

The fp32 graphs are always made, because INT8 is judged against them; they are published where the config asks for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from dynbert.cpu import cpu_name, usable_cores
from dynbert.inputs import INPUT_IDS
from dynbert.latency import latency_lengths, measure_latency
from dynbert.manifest import (
    FULL,
    SCHEMA_VERSION,
    GraphEntry,
    Latency,
    Manifest,
    ModelInfo,
    Parity,
    Precision,
    Probe,
    ProfileEntry,
    Quality,
    Target,
    file_entry,
    write_manifest,
)
from dynbert.session import check_threads, open_session
from dynbert_export.agreement import METRICS, Outputs, measure_agreement
from dynbert_export.bundle import Staging, check_output, stage_bundle
from dynbert_export.calibration import load_texts
from dynbert_export.card import write_card
from dynbert_export.checkpoint import Checkpoint, load_checkpoint, load_model, load_tokenizer, save_tokenizer
from dynbert_export.errors import GateError
from dynbert_export.evaluate import graph_feed, largest_difference, run_graph
from dynbert_export.graph.freeze import GraphSpec, task_outputs
from dynbert_export.graph.names import LENGTH_INPUT
from dynbert_export.graph.smoothing import fold_smoothing
from dynbert_export.lower import lower
from dynbert_export.options import QuantizeOption, TargetOption
from dynbert_export.progress import Progress, SilentProgress
from dynbert_export.quantize import NeuralCompressor, QuantizationEngine, quantizable_nodes
from dynbert_export.texts import Texts, prepare_texts
from dynbert_export.tracing import trace
from dynbert_export.variants import Variant, list_variants, write_graphs
from dynbert_export.verify import TorchReference, check_int8_kernels, check_parity, make_cases

if TYPE_CHECKING:
    import onnx_ir as ir
    from transformers import PreTrainedTokenizerFast

    from dynbert_export.feeds import Feed
    from dynbert_export.recipe import ExportConfig

__all__ = ["ExportResult", "export_bundle"]

_CARD_FILE = "README.md"
_CONFIG_FILE = "config.json"
_PROBE_FILE = "probe.npz"
_PROBE_TOKENS = 32
_PRODUCERS = ("dynbert", "torch", "transformers", "onnx", "onnxruntime", "neural-compressor", "optimum-onnx")


@dataclass(frozen=True)
class ExportResult:
    """What an export made."""

    bundle: Path
    """The folder."""
    manifest: Manifest
    baseline: tuple[Latency, ...]
    """Latency of the fp32 graph that drops nothing, published or not."""


@dataclass(frozen=True)
class _Job:
    """What every stage reads."""

    config: ExportConfig
    checkpoint: Checkpoint
    tokenizer: PreTrainedTokenizerFast
    texts: Texts
    variants: tuple[Variant, ...]
    staging: Staging

    @property
    def spec(self) -> GraphSpec:
        """What the graphs are made for."""
        return GraphSpec(
            num_layers=self.checkpoint.config.num_hidden_layers,
            max_length=self.checkpoint.max_length,
            always_keep_cls_token=self.config.always_keep_cls_token,
        )

    @property
    def target(self) -> Target | None:
        """The instruction set of the INT8 graphs; None where there are none."""
        if self.config.quantize is QuantizeOption.NONE or Precision.INT8 not in self.config.precisions:
            return None
        option = self.config.target
        return Target.VNNI if option is TargetOption.AUTO else Target(option.value)

    def folder(self, precision: Precision) -> Path:
        """Return where the graphs of a precision are written: into the bundle, where it is to have them."""
        return self.staging.bundle if precision in self.config.precisions else self.staging.work


_Graphs = Mapping[Precision, Mapping[str, Path]]
"""Precision -> variant's name -> file."""


def export_bundle(
    config: ExportConfig, *, progress: Progress | None = None, engine: QuantizationEngine | None = None
) -> ExportResult:
    """Export a checkpoint.

    Args:
        config: The options.
        progress: Told of stages and notes.
        engine: The quantiser; None for Neural Compressor.

    Returns:
        The published bundle.

    Raises:
        InputError: If an option does not fit the model or the output's place.
        ExportError: If the checkpoint, the calibration file, a gate or the disk fails; nothing is published then.
    """
    progress = progress or SilentProgress()
    check_output(config.output, overwrite=config.overwrite)
    with progress.stage("check"):
        check_threads(config.threads)
        checkpoint = load_checkpoint(
            config.model, revision=config.revision, task=config.task, max_length=config.max_length
        )
        config.check_profiles(num_layers=checkpoint.config.num_hidden_layers, max_length=checkpoint.max_length)
        tokenizer = load_tokenizer(checkpoint)
        texts = prepare_texts(
            load_texts(config.calibration, checkpoint.task),
            tokenizer,
            samples=config.calibration_samples,
            max_length=checkpoint.max_length,
            seed=config.seed,
        )
    for note in (*checkpoint.notes, *([texts.notice] if texts.notice else [])):
        progress.note(note)
    variants = list_variants(config.profiles, checkpoint.config.num_hidden_layers)
    with stage_bundle(config.output, overwrite=config.overwrite) as staging, _torch_threads(config.threads):
        job = _Job(config, checkpoint, tokenizer, texts, variants, staging)
        manifest, baseline = _build(job, progress, engine or NeuralCompressor(seed=config.seed))
        with progress.stage("publish"):
            write_manifest(staging.bundle, manifest)
    return ExportResult(config.output, manifest, baseline)


def _build(job: _Job, progress: Progress, engine: QuantizationEngine) -> tuple[Manifest, tuple[Latency, ...]]:
    """Fill the staged bundle with everything but the manifest."""
    graphs: dict[Precision, Mapping[str, Path]] = {}
    parities: dict[Path, Parity] = {}
    with progress.stage("trace"):
        model = load_model(job.checkpoint)
        anytime = trace(
            model,
            job.checkpoint.task,
            opset=job.config.opset,
            always_keep_cls_token=job.config.always_keep_cls_token,
        )
    with progress.stage("specialise fp32"):
        graphs[Precision.FP32] = _write_graphs(job, anytime, Precision.FP32)
    with progress.stage("verify fp32 against PyTorch"):
        reference = TorchReference(model, task_outputs(anytime), always_keep_cls_token=job.config.always_keep_cls_token)
        parities |= _check_fp32(job, graphs[Precision.FP32], reference)
    del model, reference
    if job.target is not None:
        products = len(quantizable_nodes(anytime))
        with progress.stage(f"quantise ({job.config.quantize.value})"):
            quantized = _quantize(job, anytime, engine)
        with progress.stage("specialise int8"):
            graphs[Precision.INT8] = _write_graphs(job, quantized, Precision.INT8)
        with progress.stage("verify int8 kernels"):
            for path in graphs[Precision.INT8].values():
                check_int8_kernels(path, expected=products)
    with progress.stage("compare answers"):
        qualities = _judge(job, graphs, parities)
    with progress.stage("measure latency"):
        latencies = _measure(job, graphs)
    _write_other_files(job, graphs)
    manifest = _describe(job, graphs, parities, qualities, latencies)
    (job.staging.bundle / _CARD_FILE).write_text(write_card(manifest), encoding="utf-8")
    return _list_files(job, manifest), latencies[graphs[Precision.FP32][FULL]]


def _write_graphs(job: _Job, anytime: ir.Model, precision: Precision) -> Mapping[str, Path]:
    return write_graphs(anytime, job.variants, job.folder(precision), precision, job.spec)


def _check_fp32(job: _Job, files: Mapping[str, Path], reference: TorchReference) -> dict[Path, Parity]:
    """Hold every fp32 graph to the PyTorch model."""
    cases = make_cases(job.checkpoint.config, max_length=job.checkpoint.max_length, seed=job.config.seed)
    return {
        files[variant.name]: check_parity(
            files[variant.name],
            reference,
            cases,
            lengths=variant.check_configs,
            max_abs_difference=job.config.gates.fp32_max_abs_difference,
            always_keep_cls_token=job.config.always_keep_cls_token,
        )
        for variant in job.variants
    }


def _quantize(job: _Job, anytime: ir.Model, engine: QuantizationEngine) -> ir.Model:
    """Return the anytime graph in INT8."""
    reduce_range = job.target is Target.AVX2
    if job.config.quantize is QuantizeOption.DYNAMIC:
        return lower(engine.quantize_dynamic(anytime, reduce_range=reduce_range))
    smoothing, calibration = (
        tuple(_with_full_lengths(feed, job.spec.num_layers) for feed in feeds)
        for feeds in (job.texts.smoothing, job.texts.calibration)
    )
    smoothed = fold_smoothing(engine.smooth(anytime, smoothing, alpha=job.config.smooth_quant_alpha))
    return lower(engine.quantize_static(smoothed, calibration, reduce_range=reduce_range))


def _with_full_lengths(feed: Feed, num_layers: int) -> Feed:
    """Return a feed for the anytime graph that drops nothing: ranges must hold for every token."""
    return {**feed, LENGTH_INPUT: np.full(num_layers, feed[INPUT_IDS].shape[1], dtype=np.int64)}


def _judge(job: _Job, graphs: _Graphs, parities: dict[Path, Parity]) -> dict[Path, Quality]:
    """Compare answers: INT8 with fp32 of the same profile, which is a gate, and every profile with fp32 full."""
    feeds = job.texts.evaluation
    qualities: dict[Path, Quality] = {}
    full: list[Outputs] = []
    misses: list[str] = []
    least = job.config.gates.int8_min_agreement(job.checkpoint.task)
    for variant in job.variants:
        own: list[Outputs] = []
        for precision in (Precision.FP32, Precision.INT8):
            if precision not in graphs:
                continue
            path = graphs[precision][variant.name]
            outputs = run_graph(path, feeds, config=variant.input_config, threads=job.config.threads)
            full, own = full or outputs, own or outputs  # the first graph of all is fp32 full
            if precision is Precision.INT8:
                agreement = _agreement(job, own, outputs)
                parities[path] = Parity(
                    inputs=job.texts.evaluation_samples,
                    near_ties=0,
                    max_abs_difference=largest_difference(own, outputs, feeds),
                    agreement=agreement,
                )
                if not agreement >= least:
                    misses.append(f"{path.name} {agreement:.4f}")
            if not variant.is_anytime:
                qualities[path] = Quality(
                    metric=METRICS[job.checkpoint.task],
                    value=_agreement(job, full, outputs),
                    data=job.texts.name,
                    samples=job.texts.evaluation_samples,
                )
    if misses:
        raise GateError(
            f"INT8 graphs must agree with fp32 by at least {least:g} ({METRICS[job.checkpoint.task]} on "
            f"{job.texts.name}), got {', '.join(misses)}. Calibrate on texts of your own (--calibration), "
            "lower the gate in a recipe, or export fp32 (--quantize none)."
        )
    return qualities


def _agreement(job: _Job, reference: list[Outputs], outputs: list[Outputs]) -> float:
    return measure_agreement(
        job.checkpoint.task,
        reference,
        outputs,
        job.texts.evaluation,
        pooling=job.checkpoint.pooling,
        problem_type=job.checkpoint.problem_type,
    )


def _published(job: _Job, graphs: _Graphs) -> Iterator[tuple[Variant, Precision, Path]]:
    """Yield the graphs of the bundle: profile by profile, INT8 first."""
    for variant in job.variants:
        for precision in job.config.precisions:
            yield variant, precision, graphs[precision][variant.name]


def _measure(job: _Job, graphs: _Graphs) -> dict[Path, tuple[Latency, ...]]:
    """Measure the published graphs, and the fp32 one that drops nothing as their base line."""
    lengths = latency_lengths(job.checkpoint.max_length)
    baseline = graphs[Precision.FP32][FULL]
    wanted = {baseline: None} | {path: variant.input_config for variant, _, path in _published(job, graphs)}
    model = _describe_model(job)
    return {path: measure_latency(path, model, lengths, config=config) for path, config in wanted.items()}


def _write_other_files(job: _Job, graphs: _Graphs) -> None:
    """Write what a bundle has beside graphs and weights: tokenizer, config, probe."""
    bundle = job.staging.bundle
    save_tokenizer(job.tokenizer, bundle)
    job.checkpoint.config.to_json_file(bundle / _CONFIG_FILE)
    first = {name: array[:1, :_PROBE_TOKENS] for name, array in job.texts.calibration[0].items()}
    arrays = {f"input.{name}": array for name, array in first.items()}
    for variant, _, path in _published(job, graphs):
        session = open_session(path, threads=1)
        feed = graph_feed(session, first, variant.input_config)
        arrays |= {f"input.{name}": array for name, array in feed.items()}
        names = [value.name for value in session.get_outputs()]
        arrays |= {f"{path.name}/{name}": output for name, output in zip(names, session.run(None, feed), strict=True)}
    np.savez(bundle / _PROBE_FILE, **arrays)


def _describe(
    job: _Job,
    graphs: _Graphs,
    parities: Mapping[Path, Parity],
    qualities: Mapping[Path, Quality],
    latencies: Mapping[Path, tuple[Latency, ...]],
) -> Manifest:
    """Return the manifest, but for its list of other files."""
    entries = []
    for variant, precision, path in _published(job, graphs):
        entry = file_entry(path)
        entries.append(
            GraphEntry(
                profile=variant.name,
                precision=precision,
                target=job.target if precision is Precision.INT8 else None,
                file=entry.file,
                sha256=entry.sha256,
                bytes=entry.bytes,
                parity=parities[path],
                quality=qualities.get(path),
                latency=latencies[path],
            )
        )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        minimum_runtime="0.1.0",
        created_by={name: version(name) for name in _PRODUCERS},
        cpu=cpu_name(),
        model=_describe_model(job),
        profiles=tuple(
            ProfileEntry(name=variant.name, length_config=variant.lengths.lengths if variant.lengths else None)
            for variant in job.variants
        ),
        graphs=tuple(entries),
        files=(),
        probe=Probe(file=_PROBE_FILE),
    )


def _describe_model(job: _Job) -> ModelInfo:
    checkpoint, config = job.checkpoint, job.checkpoint.config
    return ModelInfo(
        id=checkpoint.name,
        task=checkpoint.task,
        architecture=checkpoint.architecture,
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        type_vocab_size=config.type_vocab_size,
        max_length=checkpoint.max_length,
        pad_token_id=config.pad_token_id or 0,
        always_keep_cls_token=job.config.always_keep_cls_token,
        labels=checkpoint.labels,
        problem_type=checkpoint.problem_type,
        pooling=checkpoint.pooling,
    )


def _list_files(job: _Job, manifest: Manifest) -> Manifest:
    """Return the manifest with every file of the bundle that is no graph."""
    graph_files = {graph.file for graph in manifest.graphs}
    others = sorted(path for path in job.staging.bundle.iterdir() if path.name not in graph_files)
    return msgspec.structs.replace(manifest, files=tuple(file_entry(path) for path in others))


@contextlib.contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Let PyTorch compute on so many threads, and on as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or usable_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
