"""Tiny bundles whose graphs compute something that a few lines of numpy compute too.

Every graph looks its token ids up in one table and scales them by a number of its own, so a test can tell which graph
ran and what it was fed. The oracle is ``ToyBundle.expected``; it shares no code with the runtime.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from dynbert.kept_values import KEPT_TOKENS, KeptValues
from dynbert.manifest import (
    ANYTIME,
    FULL,
    MINIMUM_RUNTIME,
    SCHEMA_VERSION,
    Agreement,
    Embeddings,
    GraphEntry,
    Latency,
    Manifest,
    ModelInfo,
    Parity,
    Pooling,
    PoolingMode,
    Precision,
    Probe,
    ProfileEntry,
    Quality,
    Target,
    Task,
    file_entry,
    list_files,
    write_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "ENTITY_LABELS",
    "LABELS",
    "WORDS",
    "ToyBundle",
    "ToySpec",
    "make_bundle",
    "make_tokenizer",
    "rewrite_manifest",
]

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [
    *SPECIALS,
    *[
        "who",
        "what",
        "wrote",
        "it",
        "the",
        "a",
        "book",
        "was",
        "by",
        "in",
        "and",
        "cafe",
        "zoe",
        "naive",
        "play",
        "run",
    ],
    *["good", "bad", "film", "of", "paris", "old", "tower", "##s", "##ing", "##ner", "?", ".", ",", "!"],
    "[MASK]",
]
MASK_ID = WORDS.index("[MASK]")
LABELS = ("negative", "neutral", "positive")
ENTITY_LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
HIDDEN = 8
LAYERS = 2
_OUTPUTS = {
    Task.FEATURE_EXTRACTION: {"last_hidden_state": ["batch", "tokens", "width"]},
    Task.TEXT_CLASSIFICATION: {"logits": ["batch", "width"]},
    Task.TOKEN_CLASSIFICATION: {"logits": ["batch", "tokens", "width"]},
    Task.FILL_MASK: {"logits": ["batch", "tokens", "width"]},
    Task.NEXT_SENTENCE_PREDICTION: {"logits": ["batch", "width"]},
    Task.MULTIPLE_CHOICE: {"logits": ["batch", "choices"]},
    Task.PRETRAINING: {
        "prediction_logits": ["batch", "tokens", "words"],
        "seq_relationship_logits": ["batch", "relations"],
    },
    Task.QUESTION_ANSWERING: {"start_logits": ["batch", "tokens"], "end_logits": ["batch", "tokens"]},
}
_WIDTHS = {
    Task.FEATURE_EXTRACTION: HIDDEN,
    Task.TEXT_CLASSIFICATION: len(LABELS),
    Task.TOKEN_CLASSIFICATION: len(ENTITY_LABELS),
    Task.FILL_MASK: len(WORDS),
    Task.NEXT_SENTENCE_PREDICTION: 2,
    Task.MULTIPLE_CHOICE: 1,
    Task.PRETRAINING: len(WORDS) + 2,
    Task.QUESTION_ANSWERING: 2,
}
_LABELS = {Task.TEXT_CLASSIFICATION: LABELS, Task.TOKEN_CLASSIFICATION: ENTITY_LABELS}
_PER_TOKEN = {Task.FEATURE_EXTRACTION, Task.TOKEN_CLASSIFICATION, Task.FILL_MASK}
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_TYPE_STEP = 0.25
_PARITY = Parity(inputs=4, near_ties=0, max_abs_difference=1e-6, selection_agreement=1.0)
_AGREEMENT = Agreement(inputs=4, max_abs_difference=1e-2, metric="cosine", value=0.9976)


@dataclass(frozen=True)
class ToySpec:
    """What a toy bundle is made of."""

    task: Task = Task.FEATURE_EXTRACTION
    profiles: Mapping[str, tuple[float, ...] | None] = field(
        default_factory=lambda: {FULL: None, "fast": (0.5, 0.25), ANYTIME: None}
    )
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Profile -> the layers that run, for those that leave out some. A toy graph has no layers."""
    precisions: tuple[Precision, ...] = (Precision.INT8, Precision.FP32)
    target: Target = Target.AVX2  # exact on every machine, so that tests do not depend on the machine
    max_length: int = 16
    labels: tuple[str, ...] | None = None
    """None for ``LABELS`` or ``ENTITY_LABELS``, by the task."""
    problem_type: str | None = None
    embeddings: Embeddings = Embeddings.TOKEN_STATES
    """Of a bundle for embeddings. A toy graph that pools gives sums over tokens, whatever the pooling."""
    pooling: Pooling | None = field(default_factory=lambda: Pooling(mode=PoolingMode.MEAN, normalize=True))
    inputs: tuple[str, ...] = _INPUTS
    table: np.ndarray | None = None
    """float32 [words, width]; None for random numbers."""
    says_what_is_kept: bool = True
    """Whether graphs name the tokens that their layers keep. A toy graph drops nothing; it says that each layer of a
    profile with lengths keeps every second token, and each layer of the anytime graph as many as it is given."""
    has_probe: bool = True

    @property
    def width(self) -> int:
        return len(self.label_names) or _WIDTHS[self.task]

    @property
    def is_pooled(self) -> bool:
        return self.task is Task.FEATURE_EXTRACTION and self.embeddings is Embeddings.POOLED

    @property
    def outputs(self) -> Mapping[str, list[str]]:
        return {"sentence_embedding": ["batch", "width"]} if self.is_pooled else _OUTPUTS[self.task]

    @property
    def label_names(self) -> tuple[str, ...]:
        return _LABELS.get(self.task, ()) if self.labels is None else self.labels


@dataclass(frozen=True)
class ToyBundle:
    """A bundle on disk with what its graphs compute."""

    folder: Path
    spec: ToySpec
    manifest: Manifest
    table: np.ndarray
    scales: Mapping[str, float]

    def expected(
        self, file: str, ids: np.ndarray, *, mask=None, types=None, lengths: tuple[int, ...] = ()
    ) -> dict[str, np.ndarray]:
        """Return the outputs of a graph, by numpy; ``ids`` are [batch, choices, tokens] for multiple choice."""
        mask = np.ones_like(ids) if mask is None else mask
        states = self.table[ids] * np.float32(self.scales[file]) + np.float32(sum(lengths))
        if types is not None:
            states = states + np.float32(_TYPE_STEP) * types[..., None].astype(np.float32)
        sums = (states * mask[..., None]).sum(axis=-2, dtype=np.float32)
        match self.spec.task:
            case Task.FEATURE_EXTRACTION:
                return {"sentence_embedding": sums} if self.spec.is_pooled else {"last_hidden_state": states}
            case Task.TOKEN_CLASSIFICATION | Task.FILL_MASK:
                return {"logits": states}
            case Task.TEXT_CLASSIFICATION | Task.NEXT_SENTENCE_PREDICTION:
                return {"logits": sums}
            case Task.MULTIPLE_CHOICE:
                return {"logits": sums[..., 0]}
            case Task.PRETRAINING:
                return {"prediction_logits": states[..., :-2], "seq_relationship_logits": sums[..., -2:]}
            case _:
                return {"start_logits": states[..., 0], "end_logits": states[..., 1]}


def make_tokenizer() -> Tokenizer:
    """Return a lower-casing WordPiece tokenizer like BERT's, with a truncation and padding that the runtime ignores."""
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    # Like a tokenizer of some checkpoints, the mask swallows the space before it.
    tokenizer.add_special_tokens([*SPECIALS, AddedToken("[MASK]", lstrip=True)])
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=9)
    return tokenizer


def make_bundle(folder: Path, spec: ToySpec | None = None, **changes) -> ToyBundle:
    """Write a toy bundle.

    Args:
        folder: Where; created if absent.
        spec: What to write; the default is a bundle for embeddings.
        **changes: Fields of the spec to replace.

    Returns:
        The bundle.
    """
    spec = replace(spec or ToySpec(), **changes)
    folder.mkdir(parents=True, exist_ok=True)
    table = spec.table
    if table is None:
        table = np.random.default_rng(7).normal(size=(len(WORDS), spec.width)).astype(np.float32)
    scales: dict[str, float] = {}
    for profile in spec.profiles:
        for precision in spec.precisions:
            file = f"{profile}.{precision.value}.onnx"
            scales[file] = 1.0 + 0.125 * len(scales)
            graph = make_graph(spec, table, scales[file], takes_lengths=profile == ANYTIME)
            if spec.says_what_is_kept:
                _add_kept_tokens(graph, is_cut=profile != FULL)
            onnx.save(graph, folder / file)
    make_tokenizer().save(str(folder / "tokenizer.json"))
    bundle = ToyBundle(folder, spec, _manifest(folder, spec), table, scales)
    if spec.has_probe:
        _write_probe(bundle)
        bundle = replace(bundle, manifest=_manifest(folder, spec))
    write_manifest(folder, bundle.manifest)
    return bundle


def rewrite_manifest(bundle: ToyBundle, **changes) -> ToyBundle:
    """Make the manifest agree with the files that are there now, with some of its fields changed."""
    manifest = _manifest(bundle.folder, bundle.spec)
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    manifest = Manifest(**{**fields, **changes})
    write_manifest(bundle.folder, manifest)
    return replace(bundle, manifest=manifest)


def make_graph(spec: ToySpec, table: np.ndarray, scale: float, *, takes_lengths: bool) -> onnx.ModelProto:
    """Return the graph ``table[ids] * scale [+ sum(lengths)] [+ types / 4]``, reduced as the task wants it."""
    initializers = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.float32(scale), "scale"),
        numpy_helper.from_array(np.float32(_TYPE_STEP), "type_step"),
        numpy_helper.from_array(np.array([-2]), "token_axis"),
        numpy_helper.from_array(np.array([-1]), "last_axis"),
        numpy_helper.from_array(np.array([len(WORDS), 2]), "words_and_relations"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
        helper.make_node("Mul", ["looked_up", "scale"], ["scaled"]),
    ]
    axes = ["batch", "choices", "tokens"] if spec.task is Task.MULTIPLE_CHOICE else ["batch", "tokens"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in spec.inputs]
    states = "scaled"
    if takes_lengths:
        inputs.append(helper.make_tensor_value_info("length_config", TensorProto.INT64, [LAYERS]))
        nodes += [
            helper.make_node("ReduceSum", ["length_config"], ["total"], keepdims=0),
            helper.make_node("Cast", ["total"], ["total_float"], to=TensorProto.FLOAT),
            helper.make_node("Add", [states, "total_float"], ["lengthened"]),
        ]
        states = "lengthened"
    if "token_type_ids" in spec.inputs:
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["types", "type_step"], ["type_steps"]),
            helper.make_node("Unsqueeze", ["type_steps", "last_axis"], ["type_states"]),
            helper.make_node("Add", [states, "type_states"], ["typed"]),
        ]
        states = "typed"
    nodes += _task_nodes(spec, states)
    outputs = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [spec.width if axis == "width" else axis for axis in axes]
        )
        for name, axes in spec.outputs.items()
    ]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _add_kept_tokens(model: onnx.ModelProto, *, is_cut: bool) -> None:
    """Add values ``kept_positions.0`` and ``kept_indices.1``, which nothing reads, and the metadata that names them."""
    names = {0: "kept_positions.0", 1: "kept_indices.1"} if is_cut else {}
    model.metadata_props.add(key=KEPT_TOKENS, value=KeptValues(cuts=names).encode())
    if not is_cut:
        return
    graph = model.graph
    constants = {"zero": 0, "one": 1, "two": 2, "last": -1, "layer_0": 0, "layer_1": 1}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value), f"kept/{name}") for name, value in constants.items()
    )
    takes_lengths = "length_config" in {value.name for value in graph.input}
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["kept/shape"]),
        helper.make_node("Gather", ["kept/shape", "kept/last"], ["kept/tokens"]),
        helper.make_node("Size", ["input_ids"], ["kept/size"]),
        helper.make_node("Div", ["kept/size", "kept/tokens"], ["kept/rows"]),
    ]
    entering = "kept/tokens"
    for layer, name in names.items():
        if takes_lengths:
            limit, step = f"kept/limit_{layer}", "kept/one"
            nodes.append(helper.make_node("Gather", ["length_config", f"kept/layer_{layer}"], [limit]))
        else:
            limit, step = entering, "kept/two"
        kept, shape, left = f"kept/range_{layer}", f"kept/shape_{layer}", f"kept/left_{layer}"
        nodes += [
            helper.make_node("Range", ["kept/zero", limit, step], [kept]),
            helper.make_node("Size", [kept], [left]),
            helper.make_node("Unsqueeze", ["kept/rows", "token_zero"], [f"{shape}/rows"]),
            helper.make_node("Unsqueeze", [left, "token_zero"], [f"{shape}/kept"]),
            helper.make_node("Concat", [f"{shape}/rows", f"{shape}/kept"], [shape], axis=0),
            helper.make_node("Expand", [kept, shape], [name]),
        ]
        entering = left
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "token_zero"))
    graph.node.extend(nodes)


def _task_nodes(spec: ToySpec, states: str) -> list[onnx.NodeProto]:
    if spec.is_pooled:
        return _sum_nodes(states, "sentence_embedding")
    if spec.task in _PER_TOKEN:
        return [helper.make_node("Identity", [states], list(_OUTPUTS[spec.task]))]
    if spec.task is Task.QUESTION_ANSWERING:
        return [
            helper.make_node("Split", [states], ["start_column", "end_column"], axis=-1),
            helper.make_node("Squeeze", ["start_column", "last_axis"], ["start_logits"]),
            helper.make_node("Squeeze", ["end_column", "last_axis"], ["end_logits"]),
        ]
    if spec.task is Task.PRETRAINING:
        parts = ["prediction_logits", "relations"]
        split = helper.make_node("Split", [states, "words_and_relations"], parts, axis=-1)
        return [split, *_sum_nodes("relations", "seq_relationship_logits")]
    if spec.task is Task.MULTIPLE_CHOICE:
        return [*_sum_nodes(states, "sums"), helper.make_node("Squeeze", ["sums", "last_axis"], ["logits"])]
    return _sum_nodes(states, "logits")


def _sum_nodes(states: str, output: str) -> list[onnx.NodeProto]:
    """Return the nodes that sum states over the tokens that are no padding."""
    return [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last_axis"], ["mask_column"]),
        helper.make_node("Mul", [states, "mask_column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "token_axis"], [output], keepdims=0),
    ]


def _manifest(folder: Path, spec: ToySpec) -> Manifest:
    graphs, profiles = [], []
    for profile, length_config in spec.profiles.items():
        profiles.append(ProfileEntry(name=profile, length_config=length_config, layer_config=spec.layers.get(profile)))
        for precision in spec.precisions:
            entry = file_entry(folder / f"{profile}.{precision.value}.onnx")
            graphs.append(
                GraphEntry(
                    profile=profile,
                    precision=precision,
                    target=spec.target if precision is Precision.INT8 else None,
                    file=entry.file,
                    sha256=entry.sha256,
                    bytes=entry.bytes,
                    parity=_PARITY if precision is Precision.FP32 else None,
                    agreement=_AGREEMENT if precision is Precision.INT8 else None,
                    quality=Quality(metric="cosine", value=0.9976, data="toy texts", samples=4),
                    latency=(Latency(tokens=16, batch=1, threads=1, median_ms=1.25),),
                )
            )
    names = {graph.file for graph in graphs}
    others = [file_entry(path, folder) for path in list_files(folder) if path.name not in names]
    model = ModelInfo(
        id="toy/bert",
        task=spec.task,
        architecture="BertModel",
        num_layers=LAYERS,
        hidden_size=HIDDEN,
        vocab_size=len(WORDS),
        type_vocab_size=2,
        max_length=spec.max_length,
        pad_token_id=0,
        always_keep_cls_token=True,
        labels=spec.label_names,
        problem_type=spec.problem_type,
        pooling=spec.pooling if spec.task is Task.FEATURE_EXTRACTION else None,
        embeddings=spec.embeddings if spec.task is Task.FEATURE_EXTRACTION else None,
        mask_token_id=MASK_ID if spec.task in {Task.FILL_MASK, Task.PRETRAINING} else None,
    )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        minimum_runtime=MINIMUM_RUNTIME,
        created_by={"dynbert": "0.1.0"},
        cpu="Toy CPU",
        model=model,
        profiles=tuple(profiles),
        graphs=tuple(graphs),
        files=tuple(others),
        probe=Probe(file="probe.npz") if (folder / "probe.npz").exists() else None,
    )


def _write_probe(bundle: ToyBundle) -> None:
    ids = np.random.default_rng(3).integers(4, len(WORDS), (2, 6))
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2])
    if bundle.spec.task is Task.MULTIPLE_CHOICE:  # one example with two choices
        ids, mask = ids[None], mask[None]
    types = np.zeros_like(ids)
    lengths = (6, 3)
    arrays = {"input.input_ids": ids, "input.attention_mask": mask, "input.token_type_ids": types}
    arrays["input.length_config"] = np.array(lengths)
    for graph in bundle.manifest.graphs:
        taken = lengths if graph.profile == ANYTIME else ()
        outputs = bundle.expected(graph.file, ids, mask=mask, lengths=taken)
        arrays |= {f"{graph.file}/{name}": output for name, output in outputs.items()}
    np.savez(bundle.folder / "probe.npz", **arrays)
