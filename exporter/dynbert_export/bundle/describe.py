"""What a bundle has beside its graphs: tokenizer, config, probe, card, and the manifest that describes it all."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from dynbert.cpu import cpu_name
from dynbert.inputs import add_lengths
from dynbert.manifest import (
    MINIMUM_RUNTIME,
    SCHEMA_VERSION,
    Agreement,
    GraphEntry,
    Invariance,
    Latency,
    Manifest,
    ModelInfo,
    Parity,
    Probe,
    ProfileEntry,
    Quality,
    file_entry,
    list_files,
)
from dynbert.probe import PROBE_FILE, input_key, record_run, write_probe
from dynbert.session import open_graph
from dynbert_export.bundle.sentence_transformers_files import write_sentence_transformers_files
from dynbert_export.checkpoint.file_names import CONFIG_FILE
from dynbert_export.checkpoint.tokenizer import save_tokenizer
from dynbert_export.report.card import write_card
from dynbert_export.tasks import HEADS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

    from dynbert.manifest import Embeddings
    from dynbert_export.checkpoint.load import Checkpoint
    from dynbert_export.data.feeds import Feed
    from dynbert_export.variants import PublishedGraph, Variant

__all__ = [
    "Findings",
    "describe_bundle",
    "describe_graphs",
    "describe_model",
    "record_probe",
    "write_companions",
]

_CARD_FILE = "README.md"
_PROBE_TOKENS = 32
_MAX_PROBE_BYTES = 1 << 20
"""Of one graph's outputs: scores of a vocabulary are 120 kB a token."""
_PRODUCERS = ("dynbert", "torch", "transformers", "onnx", "onnxruntime", "neural-compressor", "optimum-onnx")


def write_companions(
    bundle: Path, checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerFast, *, is_pooled: bool
) -> None:
    """Write the tokenizer, the config and sentence-transformers' files into the staged bundle.

    Args:
        bundle: The folder.
        checkpoint: What is exported.
        tokenizer: The checkpoint's.
        is_pooled: Whether the graphs give embeddings themselves.
    """
    save_tokenizer(tokenizer, bundle, max_length=checkpoint.max_length)
    checkpoint.config.to_json_file(bundle / CONFIG_FILE)
    if checkpoint.pooling is not None and not is_pooled:  # with them, sentence-transformers asks for token states
        write_sentence_transformers_files(
            bundle,
            checkpoint.pooling,
            checkpoint.package,
            dimensions=checkpoint.config.hidden_size,
            max_length=checkpoint.max_length,
        )


def record_probe(bundle: Path, published: Iterable[PublishedGraph], example: Feed, model: ModelInfo) -> None:
    """Write what the published graphs give for the first tokens of an input into the staged bundle.

    Args:
        bundle: The folder.
        published: The graphs.
        example: The input, without lengths.
        model: What the graphs were made from.
    """
    tokens = _count_probe_tokens(model)
    first = {name: array[:1, ..., :tokens] for name, array in example.items()}
    arrays: dict[str, NDArray[Any]] = {input_key(name): array for name, array in first.items()}
    for variant, _, path in published:
        graph = open_graph(path, threads=1)
        feed = add_lengths(first, variant.input_config, always_keep_cls_token=model.always_keep_cls_token)
        arrays |= record_run(graph, feed)
    write_probe(bundle / PROBE_FILE, arrays)


def _count_probe_tokens(model: ModelInfo) -> int:
    """Return how many tokens the probe has."""
    if not HEADS[model.task].has_vocabulary:
        return _PROBE_TOKENS
    return min(_PROBE_TOKENS, max(1, _MAX_PROBE_BYTES // (4 * model.vocab_size)))


@dataclass(frozen=True)
class Findings:
    """What was measured, by the file of the graph."""

    parities: Mapping[Path, Parity]
    """Of fp32 graphs."""
    agreements: Mapping[Path, Agreement]
    """Of INT8 graphs."""
    qualities: Mapping[Path, Quality]
    latencies: Mapping[Path, tuple[Latency, ...]]
    """Of published graphs."""
    invariances: Mapping[Path, Invariance]
    fp32_products: Mapping[Path, tuple[str, ...]]
    """Modules that stay fp32 in an INT8 graph although they could be INT8."""


def describe_graphs(
    model: ModelInfo, variants: Iterable[Variant], published: Iterable[PublishedGraph], findings: Findings
) -> Manifest:
    """Describe the graphs of the staged bundle.

    Args:
        model: What the graphs were made from.
        variants: The profiles.
        published: The graphs.
        findings: What was measured of them.

    Returns:
        The manifest, still without the other files.
    """
    return Manifest(
        schema_version=SCHEMA_VERSION,
        minimum_runtime=MINIMUM_RUNTIME,
        created_by={name: version(name) for name in _PRODUCERS},
        cpu=cpu_name(),
        model=model,
        profiles=tuple(
            ProfileEntry(
                name=variant.name,
                length_config=variant.lengths.lengths if variant.lengths else None,
                layer_config=variant.layers,
            )
            for variant in variants
        ),
        graphs=tuple(_describe_graph(graph, findings) for graph in published),
        files=(),
        probe=Probe(file=PROBE_FILE),
    )


def _describe_graph(published: PublishedGraph, findings: Findings) -> GraphEntry:
    variant, graph_set, path = published
    entry = file_entry(path)
    return GraphEntry(
        profile=variant.name,
        precision=graph_set.precision,
        target=graph_set.target,
        file=entry.file,
        sha256=entry.sha256,
        bytes=entry.bytes,
        parity=findings.parities.get(path),
        agreement=findings.agreements.get(path),
        quality=findings.qualities.get(path),
        invariance=findings.invariances.get(path),
        latency=findings.latencies.get(path, ()),
        fp32_products=findings.fp32_products.get(path, ()),
    )


def describe_bundle(bundle: Path, manifest: Manifest, *, mask_token: str | None) -> Manifest:
    """Write the card, and describe every file of the staged bundle.

    Args:
        bundle: The folder.
        manifest: What ``describe_graphs`` gave, with all that was measured since.
        mask_token: What the tokenizer takes for a masked word; None where it has none.

    Returns:
        The manifest; to be written last.
    """
    (bundle / _CARD_FILE).write_text(write_card(manifest, mask_token=mask_token), encoding="utf-8")
    graph_files = {bundle / graph.file for graph in manifest.graphs}
    others = tuple(file_entry(path, bundle) for path in list_files(bundle) if path not in graph_files)
    return msgspec.structs.replace(manifest, files=others)


def describe_model(
    checkpoint: Checkpoint,
    *,
    always_keep_cls_token: bool,
    embeddings: Embeddings | None,
    mask_token_id: int | None,
) -> ModelInfo:
    """Return the manifest's facts of the model.

    Args:
        checkpoint: What is exported.
        always_keep_cls_token: As its graphs are traced.
        embeddings: What the graphs of feature extraction give; None for the other tasks.
        mask_token_id: The id that asks for a token; None for the tasks that foretell none.

    Returns:
        The facts.
    """
    config = checkpoint.config
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
        always_keep_cls_token=always_keep_cls_token,
        labels=checkpoint.labels,
        problem_type=checkpoint.problem_type,
        pooling=checkpoint.pooling,
        embeddings=embeddings,
        mask_token_id=mask_token_id,
    )
