"""The order of the stages, from a checked config to a published bundle; the work of each stands in its own module.

The fp32 graphs are always made, because INT8 is judged against them; they are published where the config asks for them.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.cpu import usable_cores
from dynbert.latency import latency_lengths, measure_latency
from dynbert.manifest import FULL, Precision, write_manifest
from dynbert.session import check_threads
from dynbert_export.bundle.describe import Findings, describe_bundle, describe_model, write_companions
from dynbert_export.bundle.publish import check_output, stage_bundle
from dynbert_export.checkpoint.load import load_checkpoint, load_model
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.data.files import load_texts
from dynbert_export.data.prepared import prepare_data
from dynbert_export.gates.answers import answer, judge
from dynbert_export.gates.invariance import check_invariance, make_texts
from dynbert_export.gates.parity import TorchReference, check_parity, make_cases
from dynbert_export.gates.recovery import Int8Graphs, check_products, recover, write_int8
from dynbert_export.graph.freeze import task_outputs
from dynbert_export.graph.specialise import rewrite, write_graphs
from dynbert_export.graph.tracing import trace
from dynbert_export.int8.choose import quantize
from dynbert_export.int8.neural_compressor import NeuralCompressor, QuantizationEngine
from dynbert_export.int8.put_back import module_name
from dynbert_export.job import Job, published_graphs
from dynbert_export.options.profiles import add_configured
from dynbert_export.options.vocabularies import QuantizeOption
from dynbert_export.progress import Progress, SilentProgress
from dynbert_export.variants import FP32_SET, list_variants

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import onnx_ir as ir

    from dynbert.manifest import Invariance, Latency, Manifest, Parity
    from dynbert_export.gates.answers import References
    from dynbert_export.int8.choose import Quantized
    from dynbert_export.job import Graphs
    from dynbert_export.options.config import ExportConfig
    from dynbert_export.variants import GraphSet

__all__ = ["ExportResult", "export_bundle"]


@dataclass(frozen=True)
class ExportResult:
    """What an export made."""

    bundle: Path
    """The folder."""
    manifest: Manifest
    baseline: tuple[Latency, ...]
    """Latency of the fp32 graph that drops nothing, published or not."""


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
        config.check_task(checkpoint.task)
        config.check_profiles(num_layers=checkpoint.config.num_hidden_layers, max_length=checkpoint.max_length)
        profiles, configured = add_configured(config.profiles, checkpoint.length_config)
        tokenizer = load_tokenizer(checkpoint)
        texts = load_texts(config.calibration, checkpoint.task)
        data = prepare_data(
            texts,
            tokenizer,
            checkpoint.task,
            samples=config.calibration_samples,
            max_length=checkpoint.max_length,
            seed=config.seed,
        )
    calibrated = texts.note if Precision.INT8 in config.precisions else None
    for note in filter(None, (*checkpoint.notes, configured, calibrated)):
        progress.note(note)
    variants = list_variants(profiles, checkpoint.config.num_hidden_layers)
    with stage_bundle(config.output, overwrite=config.overwrite) as staging, _torch_threads(config.threads):
        job = Job(config, checkpoint, tokenizer, data, variants, staging.bundle, staging.work)
        for target, named in job.covered_targets.items():
            progress.note(
                f"{target.value} computes with the numbers of {named.value}: one set of INT8 graphs serves both."
            )
        manifest, baseline = _build(job, progress, engine or NeuralCompressor(seed=config.seed))
        with progress.stage("publish"):
            write_manifest(staging.bundle, manifest)
    return ExportResult(config.output, manifest, baseline)


def _build(job: Job, progress: Progress, engine: QuantizationEngine) -> tuple[Manifest, tuple[Latency, ...]]:
    """Fill the staged bundle with everything but the manifest."""
    graphs: dict[GraphSet, Mapping[str, Path]] = {}
    parities: dict[Path, Parity] = {}
    with progress.stage("trace"):
        model = load_model(job.checkpoint, is_pooled=job.is_pooled)
        traced = trace(
            model,
            job.checkpoint.task,
            opset=job.config.opset,
            always_keep_cls_token=job.config.always_keep_cls_token,
            is_pooled=job.is_pooled,
        )
        anytime = rewrite(traced, job.spec)
        del traced
    with progress.stage("specialise fp32"):
        graphs[FP32_SET] = write_graphs(anytime, job.variants, job.folder(Precision.FP32), FP32_SET, job.spec)
    with progress.stage("verify fp32 against PyTorch"):
        reference = TorchReference(model, task_outputs(anytime), always_keep_cls_token=job.config.always_keep_cls_token)
        parities |= _check_fp32(job, graphs[FP32_SET], reference)
    del model, reference
    with progress.stage("answer in fp32"):
        references = answer(job, graphs[FP32_SET])
        answers = judge(job, graphs[FP32_SET], Precision.FP32, references)
    fp32_products: dict[Path, tuple[str, ...]] = {}
    invariances: dict[Path, Invariance] = {}
    for graph_set, quantized in _quantize(job, anytime, engine, progress).items():
        int8 = _build_int8(job, graph_set, quantized, references, progress)
        graphs[graph_set] = int8.files
        answers = answers.joined(int8.answers)
        fp32_products |= dict.fromkeys(int8.files.values(), tuple(map(module_name, int8.fp32_products)))
        if job.config.quantize is QuantizeOption.STATIC:
            with progress.stage("verify int8 invariance"):
                invariances |= _check_invariance(job, int8.files)
    with progress.stage("measure latency"):
        latencies = _measure(job, graphs)
    write_companions(job, graphs)
    findings = Findings(parities, answers.agreements, answers.qualities, latencies, invariances, fp32_products)
    return describe_bundle(job, graphs, findings), latencies[graphs[FP32_SET][FULL]]


def _quantize(
    job: Job, anytime: ir.Model, engine: QuantizationEngine, progress: Progress
) -> Mapping[GraphSet, Quantized]:
    if not job.int8_sets:
        return {}
    with progress.stage(f"quantise ({job.config.quantize.value})"):
        return quantize(job, anytime, engine, progress)


def _build_int8(
    job: Job, graph_set: GraphSet, quantized: Quantized, references: References, progress: Progress
) -> Int8Graphs:
    """Write a set of INT8 graphs and hold it to its gates, with products in fp32 where there is no other way."""
    with progress.stage("specialise int8"):
        files = write_int8(job, graph_set, quantized)
    with progress.stage("verify int8 kernels"):
        check_products(files, graph_set, quantized)
    with progress.stage("compare answers"):
        int8 = Int8Graphs(files, judge(job, files, Precision.INT8, references))
    if int8.answers.misses:
        with progress.stage("put products back to fp32"):
            int8 = recover(job, graph_set, quantized, int8, references)
        names = ", ".join(module_name(name) for name in int8.fp32_products)
        progress.note(
            f"These stay fp32, because with them in INT8 the answers differ more than the gate allows: {names}."
        )
    return int8


def _check_fp32(job: Job, files: Mapping[str, Path], reference: TorchReference) -> dict[Path, Parity]:
    """Hold every fp32 graph to the PyTorch model."""
    cases = make_cases(
        job.checkpoint.config, job.checkpoint.task, max_length=job.checkpoint.max_length, seed=job.config.seed
    )
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


def _check_invariance(job: Job, files: Mapping[str, Path]) -> dict[Path, Invariance]:
    """Hold static INT8 graphs to what they answer to a text alone."""
    texts = make_texts(job.data.evaluation.feeds, max_length=job.checkpoint.max_length)
    return {
        files[variant.name]: check_invariance(
            files[variant.name],
            texts,
            lengths=variant.check_configs[-1],
            always_keep_cls_token=job.config.always_keep_cls_token,
            counts_padding=getattr(job.checkpoint.config, "count_padded_queries", False),
        )
        for variant in job.variants
    }


def _measure(job: Job, graphs: Graphs) -> dict[Path, tuple[Latency, ...]]:
    """Measure the published graphs, and the fp32 one that drops nothing as their base line."""
    lengths = latency_lengths(job.checkpoint.max_length)
    baseline = graphs[FP32_SET][FULL]
    wanted = {baseline: None} | {path: variant.latency_config for variant, _, path in published_graphs(job, graphs)}
    model = describe_model(job)
    return {path: measure_latency(path, model, lengths, config=config) for path, config in wanted.items()}


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
