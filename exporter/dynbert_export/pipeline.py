"""The order of the stages, from a checked config to a published bundle; the work of each stands in its own module.

The fp32 graphs are always made, because INT8 is judged against them; they are published where the config asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dynbert.latency import latency_lengths, measure_latency
from dynbert.manifest import FULL, Precision, write_manifest
from dynbert.scoring.jobs import make_job
from dynbert.session import check_threads
from dynbert_export.bundle.describe import (
    Findings,
    describe_bundle,
    describe_graphs,
    describe_model,
    record_probe,
    write_companions,
)
from dynbert_export.bundle.publish import check_output, stage_bundle
from dynbert_export.checkpoint.load import load_checkpoint, load_model
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.checkpoint.training_record import explain_excess
from dynbert_export.data.files import load_texts
from dynbert_export.data.prepared import prepare_data
from dynbert_export.evaluation.agreement import AnswerMeasure
from dynbert_export.evaluation.labelled import add_evaluations, evaluate_graphs, load_evaluation_data
from dynbert_export.gates.answers import AnswerGate
from dynbert_export.gates.dominance import check_dominance
from dynbert_export.gates.invariance import check_invariance, make_texts
from dynbert_export.gates.parity import TorchReference, check_parity, make_cases
from dynbert_export.gates.recovery import Int8Maker, recover
from dynbert_export.graph.freeze import task_outputs
from dynbert_export.graph.names import names_in_layers
from dynbert_export.graph.sources import save_source
from dynbert_export.graph.specialise import rewrite, write_graphs
from dynbert_export.graph.tracing import trace
from dynbert_export.int8.calibration import Calibration, full_length_feeds
from dynbert_export.int8.choose import list_ways, quantize_dynamic, quantize_static
from dynbert_export.int8.neural_compressor import NeuralCompressor, QuantizationEngine
from dynbert_export.int8.put_back import module_name, put_back
from dynbert_export.job import Job
from dynbert_export.options.profiles import add_configured, check_lengths, check_query_profile
from dynbert_export.options.vocabularies import QuantizeOption
from dynbert_export.progress import Progress, SilentProgress
from dynbert_export.threads import torch_threads
from dynbert_export.variants import FP32_SET, list_variants

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir
    from transformers import PreTrainedModel

    from dynbert.manifest import Invariance, Latency, Manifest, ModelInfo, Parity
    from dynbert.scoring.bundle_evaluation import BundleEvaluation
    from dynbert.scoring.examples import LabelledData
    from dynbert_export.gates.recovery import Int8Graphs
    from dynbert_export.int8.choose import Quantized
    from dynbert_export.options.config import ExportConfig
    from dynbert_export.variants import GraphSet, PublishedGraph

__all__ = ["ExportResult", "export_bundle"]


@dataclass(frozen=True)
class ExportResult:
    """What an export made."""

    bundle: Path
    """The folder."""
    manifest: Manifest
    baseline: tuple[Latency, ...]
    """Latency of the fp32 graph that drops nothing, published or not."""
    evaluation: BundleEvaluation | None = None
    """How well the graphs do on labelled data, where there was some."""


def export_bundle(
    config: ExportConfig,
    *,
    progress: Progress | None = None,
    engine: QuantizationEngine | None = None,
    sources: Path | None = None,
) -> ExportResult:
    """Export a checkpoint.

    Args:
        config: The options.
        progress: Told of stages and notes.
        engine: The quantiser; None for Neural Compressor.
        sources: Folder that the graphs are kept in of which profiles are made, to make further ones later
            (``graph/sources.py``); None to keep none.

    Returns:
        The published bundle.

    Raises:
        InputError: If an option does not fit the model or the output's place.
        DataError: If the labelled data cannot be used; before anything is made.
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
        check_lengths(config.profiles, num_layers=checkpoint.config.num_hidden_layers, max_length=checkpoint.max_length)
        profiles, configured = add_configured(config.profiles, checkpoint.length_config)
        check_query_profile(config.query_profile, profiles)
        labelled = load_evaluation_data(config, checkpoint)
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
    excess = () if checkpoint.training is None else explain_excess(profiles, checkpoint.training, checkpoint.max_length)
    for note in filter(None, (*checkpoint.notes, configured, calibrated, *excess)):
        progress.note(note)
    variants = list_variants(profiles, checkpoint.config.num_hidden_layers)
    with stage_bundle(config.output, overwrite=config.overwrite) as staging, torch_threads(config.threads):
        job = Job(config, checkpoint, tokenizer, data, labelled, variants, staging.bundle, staging.work, sources)
        for target, named in job.covered_targets.items():
            progress.note(
                f"{target.value} computes with the numbers of {named.value}: one set of INT8 graphs serves both."
            )
        built = _build(job, progress, engine or NeuralCompressor(seed=config.seed))
        with progress.stage("publish"):
            write_manifest(staging.bundle, built.manifest)
    return built


def _build(job: Job, progress: Progress, engine: QuantizationEngine) -> ExportResult:
    """Fill the staged bundle with everything but the manifest."""
    facts = describe_model(
        job.checkpoint,
        always_keep_cls_token=job.config.always_keep_cls_token,
        embeddings=job.embeddings,
        mask_token_id=job.mask_token_id,
    )
    if job.labelled is not None:
        # What does not suit is refused before anything is made.
        make_job(facts, job.labelled, has_own_queries=job.config.query_profile is not None)
    anytime, fp32, parities = _build_fp32(job, progress)
    graphs: dict[GraphSet, Mapping[str, Path]] = {FP32_SET: fp32}
    gate = _make_gate(job)
    with progress.stage("answer in fp32"):
        references = gate.answer(fp32)
        answers = gate.judge(fp32, Precision.FP32, references)
    calibration = Calibration(
        full_length_feeds(
            job.data.calibration, job.spec.num_layers, always_keep_cls_token=job.spec.always_keep_cls_token
        ),
        gate.measure,
        job.config.threads,
    )
    fp32_products: dict[Path, tuple[str, ...]] = {}
    invariances: dict[Path, Invariance] = {}
    for graph_set, quantized in _quantize(job, anytime, calibration, engine, progress).items():
        folder = job.folder(Precision.INT8)
        specialise = partial(write_graphs, variants=job.variants, folder=folder, graph_set=graph_set, spec=job.spec)
        int8 = _build_int8(
            Int8Maker(graph_set, quantized, specialise, gate, references),
            calibration,
            progress,
            max_fp32_share=job.config.gates.max_fp32_share,
        )
        graphs[graph_set] = int8.files
        if job.sources is not None:
            save_source(put_back(quantized, int8.fp32_products), job.sources, graph_set)
        answers = answers.joined(int8.answers)
        fp32_products |= {
            int8.files[variant.name]: tuple(map(module_name, names_in_layers(int8.fp32_products, variant.layers)))
            for variant in job.variants
        }
        if job.config.quantize is QuantizeOption.STATIC:
            with progress.stage("verify int8 invariance"):
                invariances |= _check_invariance(job, int8.files)
    published = job.list_published(graphs)
    baseline = fp32[FULL]
    with progress.stage("measure latency"):
        latencies = _measure(published, baseline, facts)
    write_companions(job.bundle, job.checkpoint, job.tokenizer, is_pooled=job.is_pooled)
    record_probe(job.bundle, published, job.data.calibration[0], facts)
    findings = Findings(parities, answers.agreements, answers.qualities, latencies, invariances, fp32_products)
    manifest = describe_graphs(facts, job.variants, published, findings)
    evaluation = None
    if job.labelled is not None:
        fp32_manifest = describe_graphs(facts, job.variants, job.list_fp32(fp32), findings)
        evaluation = _evaluate(job, manifest, fp32_manifest, job.labelled, progress)
        manifest = add_evaluations(manifest, evaluation)
    manifest = describe_bundle(job.bundle, manifest, mask_token=job.tokenizer.mask_token)
    return ExportResult(job.config.output, manifest, latencies[baseline], evaluation)


def _evaluate(
    job: Job, manifest: Manifest, fp32_manifest: Manifest, data: LabelledData, progress: Progress
) -> BundleEvaluation:
    """Score the published graphs' answers to labelled data, and hold the profiles to each other."""
    references = job.folder(Precision.FP32), fp32_manifest
    with progress.stage(f"evaluate on {data.name}"):
        found, left_out = evaluate_graphs(job.bundle, manifest, references, data, job.config.query_profile)
    for note in (*left_out, *found.notes):
        progress.note(note)
    if job.config.gates.refuse_dominated:
        check_dominance(add_evaluations(manifest, found))
    return found


def _build_fp32(job: Job, progress: Progress) -> tuple[ir.Model, Mapping[str, Path], dict[Path, Parity]]:
    """Trace the model and write its fp32 graphs, held to PyTorch; return the anytime graph, files and parities."""
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
        files = write_graphs(anytime, job.variants, job.folder(Precision.FP32), FP32_SET, job.spec)
    if job.sources is not None:
        save_source(anytime, job.sources, FP32_SET)
    with progress.stage("verify fp32 against PyTorch"):
        parities = _check_fp32(job, files, model, task_outputs(anytime))
    return anytime, files, parities


def _make_gate(job: Job) -> AnswerGate:
    """Return the gate on answers: the held-out texts, the checkpoint's metric, its threshold."""
    checkpoint = job.checkpoint
    measure = AnswerMeasure(checkpoint.task, checkpoint.problem_type, checkpoint.pooling, job.mask_token_id)
    return AnswerGate(
        job.variants,
        job.data.evaluation,
        measure,
        least=job.config.gates.int8_min_agreement(measure.metric),
        always_keep_cls_token=job.config.always_keep_cls_token,
        threads=job.config.threads,
    )


def _quantize(
    job: Job, anytime: ir.Model, calibration: Calibration, engine: QuantizationEngine, progress: Progress
) -> Mapping[GraphSet, Quantized]:
    if not job.int8_sets:
        return {}
    config = job.config
    with progress.stage(f"quantise ({config.quantize.value})"):
        if config.quantize is QuantizeOption.DYNAMIC:
            return quantize_dynamic(anytime, job.int8_sets, engine)
        ways = list_ways(config.calibration_method, config.smooth_quant_alpha)
        return quantize_static(anytime, job.int8_sets, ways, calibration, engine, progress)


def _build_int8(maker: Int8Maker, calibration: Calibration, progress: Progress, *, max_fp32_share: float) -> Int8Graphs:
    """Write a set of INT8 graphs and hold it to its gates, with products in fp32 where there is no other way."""
    with progress.stage("specialise int8"):
        files = maker.write()
    with progress.stage("verify int8 kernels"):
        maker.check_products(files)
    with progress.stage("compare answers"):
        int8 = maker.judge(files)
    if int8.answers.misses:
        with progress.stage("put products back to fp32"):
            int8 = recover(maker, int8, calibration, max_fp32_share=max_fp32_share)
        names = ", ".join(module_name(name) for name in int8.fp32_products)
        progress.note(
            f"These stay fp32, because with them in INT8 the answers differ more than the gate allows: {names}."
        )
    return int8


def _check_fp32(
    job: Job, files: Mapping[str, Path], model: PreTrainedModel, outputs: Sequence[str]
) -> dict[Path, Parity]:
    """Hold every fp32 graph to the PyTorch model."""
    cases = make_cases(
        job.checkpoint.config, job.checkpoint.task, max_length=job.checkpoint.max_length, seed=job.config.seed
    )
    reference = partial(TorchReference, model, outputs, cases, always_keep_cls_token=job.config.always_keep_cls_token)
    with_all_layers = reference()  # answers that it knows are asked for again
    return {
        files[variant.name]: check_parity(
            files[variant.name],
            with_all_layers if variant.layers is None else reference(layers=variant.layers),
            lengths=variant.checked_configs,
            max_abs_difference=job.config.gates.fp32_max_abs_difference,
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
            lengths=variant.judged_config,
            always_keep_cls_token=job.config.always_keep_cls_token,
            counts_padding=getattr(job.checkpoint.config, "count_padded_queries", False),
        )
        for variant in job.variants
    }


def _measure(published: Iterable[PublishedGraph], baseline: Path, model: ModelInfo) -> dict[Path, tuple[Latency, ...]]:
    """Measure the published graphs, and the fp32 one that drops nothing as their base line."""
    lengths = latency_lengths(model.max_length)
    wanted = {baseline: None} | {path: variant.latency_config for variant, _, path in published}
    return {path: measure_latency(path, model, lengths, config=config) for path, config in wanted.items()}
