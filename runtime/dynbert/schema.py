"""What ``manifest.json`` says: its records and vocabularies, and the rules that they hold by themselves.

The exporter writes these structs, the runtime reads them; neither has its own idea of the format. The door to them, and
to reading and writing, is ``manifest.py``.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from dynbert.lengths import LengthConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ANYTIME",
    "FULL",
    "MANIFEST_FILE",
    "MINIMUM_RUNTIME",
    "SCHEMA_VERSION",
    "Agreement",
    "DataLatency",
    "Difference",
    "Embeddings",
    "Evaluation",
    "FileEntry",
    "GraphEntry",
    "Invariance",
    "Latency",
    "Manifest",
    "MetricValue",
    "ModelInfo",
    "Parity",
    "Pooling",
    "PoolingMode",
    "Precision",
    "Probe",
    "ProfileEntry",
    "Quality",
    "Target",
    "Task",
    "is_file_name",
    "is_file_path",
]

SCHEMA_VERSION = 4
"""Raised when a reader of the old schema would misread the new one."""
MINIMUM_RUNTIME = "0.1.0"
"""First dynbert version that reads this schema."""

MANIFEST_FILE = "manifest.json"
FULL = "full"
"""Name of the profile that drops nothing."""
ANYTIME = "anytime"
"""Name of the graph that takes its length config as an input."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Task(StrEnum):
    """What a bundle's graphs compute; the values are the names that Hugging Face's tools use."""

    QUESTION_ANSWERING = "question-answering"
    TEXT_CLASSIFICATION = "text-classification"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 - not a password
    FILL_MASK = "fill-mask"
    NEXT_SENTENCE_PREDICTION = "next-sentence-prediction"
    MULTIPLE_CHOICE = "multiple-choice"
    PRETRAINING = "pretraining"
    """Both heads of BERT's pretraining: fill-mask and next-sentence-prediction in one graph."""
    FEATURE_EXTRACTION = "feature-extraction"


class Precision(StrEnum):
    """Number format of the weights and of the matrix products with them."""

    INT8 = "int8"
    FP32 = "fp32"


class Target(StrEnum):
    """The instruction set that an INT8 graph's number ranges were chosen for."""

    VNNI = "vnni"
    AMX = "amx"
    AVX2 = "avx2"
    ARM64 = "arm64"

    @property
    def is_full_range(self) -> bool:
        """Whether weights use all of [-127, 127]; else seven bits.

        Only x86 without VNNI needs the latter, because it sums pairs of products in 16 bits. VNNI, AMX and the kernels
        that onnxruntime has for arm64 (UDOT, UMMLA, NEON) add u8 activations times weights in [-127, 127] up exactly:
        one set of graphs is right for all three.
        """
        return self is not Target.AVX2


class PoolingMode(StrEnum):
    """How token states become one embedding."""

    MEAN = "mean"
    CLS = "cls"


class Embeddings(StrEnum):
    """What the graphs of an embedding bundle give."""

    POOLED = "pooled"
    """``sentence_embedding``: one vector a text, pooled in the graph. A mean is that of the tokens which the last layer
    kept."""
    TOKEN_STATES = "token-states"  # noqa: S105 - not a password
    """``last_hidden_state``: one vector a token, dropped ones put back, for whoever pools. optimum and
    sentence-transformers ask for it."""


Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Record(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the manifest's records: immutable, and strict about unknown keys.

    msgspec applies ``kw_only`` to the class that states it only, and type checkers see ``frozen`` only there: each
    record repeats both.
    """


class FileEntry(_Record, frozen=True, kw_only=True):
    """One file of the bundle."""

    file: str
    """Plain name in the bundle's folder, or ``FOLDER/NAME``, both plain."""
    sha256: Sha256
    bytes: Count
    """Size."""


class Pooling(_Record, frozen=True, kw_only=True):
    """How an embedding is made of token states, as the checkpoint's sentence-transformers files say."""

    mode: PoolingMode
    normalize: bool
    """Whether embeddings are scaled to unit length."""


class ModelInfo(_Record, frozen=True, kw_only=True):
    """The checkpoint that the graphs came from."""

    id: str
    """Hub id or folder name."""
    task: Task
    architecture: str
    """Class name, e.g. ``BertForQuestionAnswering``."""
    num_layers: Positive
    hidden_size: Positive
    vocab_size: Positive
    type_vocab_size: Positive
    max_length: Positive
    """Longest input in tokens, special tokens included."""
    pad_token_id: Count
    always_keep_cls_token: bool
    labels: tuple[str, ...] = ()
    """Names of the classes by index, of a text or of a token; empty where the task has none."""
    problem_type: str | None = None
    """``single_label_classification``, ``multi_label_classification`` or ``regression``; text classification only."""
    pooling: Pooling | None = None
    """Feature extraction only, and always there where the graphs pool."""
    embeddings: Embeddings | None = None
    """What the graphs give: feature extraction only, which has it always."""
    mask_token_id: Count | None = None
    """The id that asks for a token; fill-mask and pretraining only."""

    def __post_init__(self) -> None:
        if (self.embeddings is not None) != (self.task is Task.FEATURE_EXTRACTION):
            got = "none" if self.embeddings is None else self.embeddings.value
            rule = "given for" if self.embeddings is None else "left out for"
            raise ValueError(f"embeddings must be {rule} {self.task.value}, got {got}")
        if self.embeddings is Embeddings.POOLED and self.pooling is None:
            raise ValueError(f"pooling must be given where embeddings is {self.embeddings.value}, got none")


class Parity(_Record, frozen=True, kw_only=True):
    """How far an fp32 graph is from the PyTorch model."""

    inputs: Positive
    """Input rows compared."""
    near_ties: Count
    """Rows left out because a token selection differed where the significance gap was below the tolerance."""
    max_abs_difference: float
    """On valid positions of the outputs."""
    selection_agreement: float
    """Share of all rows in which the same tokens were kept."""


class Agreement(_Record, frozen=True, kw_only=True):
    """How far an INT8 graph is from the fp32 graph of the same profile, on texts."""

    inputs: Positive
    """Texts compared."""
    max_abs_difference: float
    """On valid positions of the outputs."""
    metric: str
    """What ``value`` is, as in ``Quality``."""
    value: float
    """1 where all answers are equal."""


class Invariance(_Record, frozen=True, kw_only=True):
    """How far an INT8 graph's answer to a text depends on what it is run with: other texts, and padding."""

    inputs: Positive
    """Times that a text was run in company or padded, and compared with itself alone."""
    near_ties: Count
    """Of these, left out because another token was kept where both were all but equally significant."""
    max_abs_difference: float
    """On valid positions of the outputs."""


class Quality(_Record, frozen=True, kw_only=True):
    """What a profile answers, against the fp32 full profile."""

    metric: str
    """What ``value`` is, such as ``cosine``, ``label_agreement``, ``closeness`` or ``span_agreement``."""
    value: float
    data: str
    """Name of the data."""
    samples: Positive


class Latency(_Record, frozen=True, kw_only=True):
    """Median time of one run, measured when the bundle was made."""

    tokens: Positive
    batch: Positive
    threads: Positive
    median_ms: Annotated[float, Meta(gt=0)]


class Difference(_Record, frozen=True, kw_only=True):
    """What a metric is less that of the fp32 graph that drops nothing, on the same examples."""

    value: float
    low: float
    """Lower end of its 95 % interval."""
    high: float
    p_value: Annotated[float, Meta(ge=0, le=1)]
    """How probably graphs that are equally good differ at least so much; two-sided."""
    test: str
    """Which test the p value is of."""


class MetricValue(_Record, frozen=True, kw_only=True):
    """One metric of a graph's answers."""

    name: str
    value: float
    low: float
    """Lower end of its 95 % bootstrap interval."""
    high: float
    difference: Difference | None = None
    """None for the graph that the others are compared with."""


class DataLatency(_Record, frozen=True, kw_only=True):
    """Time of one input alone, at the data's own lengths."""

    inputs: Positive
    """Inputs timed."""
    threads: Positive
    median_ms: Annotated[float, Meta(gt=0)]
    p95_ms: Annotated[float, Meta(gt=0)]
    """95th percentile."""


class Evaluation(_Record, frozen=True, kw_only=True):
    """How well a graph answers labelled data."""

    data: str
    """Name of the data."""
    sha256: Sha256
    """Of its examples, as ``LabelledData.sha256`` gives it."""
    examples: Positive
    metrics: Annotated[tuple[MetricValue, ...], Meta(min_length=1)]
    """The main one first."""
    latency: DataLatency | None = None
    """None where it was not measured."""


class GraphEntry(_Record, frozen=True, kw_only=True):
    """One ONNX graph."""

    profile: str
    precision: Precision
    target: Target | None
    """None for fp32, which runs anywhere."""
    file: str
    sha256: Sha256
    bytes: Count
    parity: Parity | None = None
    """fp32 only, which has it always."""
    agreement: Agreement | None = None
    """INT8 only, which has it always."""
    quality: Quality | None = None
    invariance: Invariance | None = None
    """Static INT8 only: fp32 is held to PyTorch instead, and dynamic INT8 depends on its batch by design."""
    latency: tuple[Latency, ...] = ()
    fp32_products: tuple[str, ...] = ()
    """INT8 graphs: modules that stay fp32 although they could be INT8, because the quality gate failed with them."""
    evaluations: tuple[Evaluation, ...] = ()
    """One for each set of labelled data that it was evaluated on."""

    def __post_init__(self) -> None:
        measured = {"parity": self.parity, "agreement": self.agreement}
        found = [name for name, value in measured.items() if value is not None]
        needed = "parity" if self.precision is Precision.FP32 else "agreement"
        if found != [needed]:
            got = " and ".join(found) or "neither"
            raise ValueError(f"an {self.precision.value} graph must have {needed} alone, got {got}")


class ProfileEntry(_Record, frozen=True, kw_only=True):
    """One length config under a name."""

    name: str
    length_config: tuple[int | float, ...] | None
    """One number a layer: counts or fractions. None for ``full``, and for ``anytime``, which takes it as an input."""
    layer_config: tuple[Count, ...] | None = None
    """Indices of the layers that run, at least one, in ascending order; None for all. ``length_config`` has a number
    for the others as well, which says nothing."""


class Probe(_Record, frozen=True, kw_only=True):
    """A recorded input with each graph's outputs, by which ``dynbert verify`` checks the kernels of a device."""

    file: str
    """A ``.npz``: ``input.NAME`` arrays, ``GRAPH_FILE/OUTPUT`` arrays; no pickled objects."""


class Manifest(_Record, frozen=True, kw_only=True):
    """All that a runtime needs to know of a bundle."""

    schema_version: Positive
    minimum_runtime: str
    """First dynbert version that reads this schema."""
    created_by: dict[str, str]
    """Package name -> version of what made the bundle."""
    cpu: str
    """Processor that the latencies were measured on."""
    model: ModelInfo
    profiles: tuple[ProfileEntry, ...]
    graphs: tuple[GraphEntry, ...]
    files: tuple[FileEntry, ...]
    """Every other file: weights, tokenizer, config, probe, card."""
    probe: Probe | None = None

    def __post_init__(self) -> None:
        plain = [entry.file for entry in self.graphs] + ([self.probe.file] if self.probe else [])
        _check_names(plain, [entry.file for entry in self.files])
        _check_clashes([entry.file for entry in self.entries])
        profiles = {profile.name for profile in self.profiles}
        if len(profiles) != len(self.profiles):
            raise ValueError("profiles must have unique names")
        unknown = sorted({graph.profile for graph in self.graphs} - profiles)
        if unknown:
            raise ValueError(f"graphs must belong to profiles of the manifest, got {', '.join(unknown)}")
        for profile in self.profiles:
            if profile.length_config is not None:
                LengthConfig(profile.length_config).check_layers(self.model.num_layers)
            if profile.layer_config is not None:
                _check_layer_config(profile.layer_config, self.model.num_layers)

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """Every file of the bundle except the manifest, graphs first."""
        graphs = tuple(FileEntry(file=g.file, sha256=g.sha256, bytes=g.bytes) for g in self.graphs)
        return graphs + self.files


def _check_layer_config(layers: tuple[int, ...], num_layers: int) -> None:
    ascends = list(layers) == sorted(set(layers))
    if not layers or not ascends or layers[-1] >= num_layers:
        raise ValueError(
            f"layer_config must be layer indices from 0 to {num_layers - 1} in ascending order, got {list(layers)}"
        )


def is_file_name(name: str) -> bool:
    """Return whether ``name`` is a plain file name: letters, digits, ``._-``, no separator, not hidden."""
    return _FILE_NAME.fullmatch(name) is not None


def is_file_path(path: str) -> bool:
    """Return whether ``path`` is a plain file name, or a plain folder, a slash and a plain file name."""
    return path.count("/") <= 1 and all(is_file_name(part) for part in path.split("/"))


def _check_names(plain: Iterable[str], others: Iterable[str]) -> None:
    """Check that every file lies in the bundle; graphs and probe directly in its folder."""
    for name in plain:
        if not is_file_name(name):
            raise ValueError(f"file must be a plain name inside the bundle, got {name!r}")
    for path in others:
        if not is_file_path(path):
            raise ValueError(f"file must be a plain name inside the bundle or one of its folders, got {path!r}")


def _check_clashes(files: list[str]) -> None:
    """Check that no two files and folders are one where a file system ignores case, as Windows' and macOS' do."""
    folders = dict.fromkeys(path.partition("/")[0] for path in files if "/" in path)
    seen: dict[str, str] = {}
    for path in (MANIFEST_FILE, *folders, *files):
        key = path.lower()
        if key in seen:
            raise ValueError(f"files must differ in name, and not only in case, got {seen[key]!r} and {path!r}")
        seen[key] = path
