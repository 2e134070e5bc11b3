"""The bundle's file contract: what ``manifest.json`` says, and the checks that hold a folder to it.

The exporter writes these structs, the runtime reads them; neither has its own idea of the format. Every file of a
bundle lies directly in its folder under a plain name, has the size and SHA-256 that the manifest states, and is a
regular file (no link leads out). A bundle that breaks a rule is refused, never repaired.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from dynbert.errors import BundleError
from dynbert.lengths import LengthConfig

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "ANYTIME",
    "FULL",
    "MANIFEST_FILE",
    "SCHEMA_VERSION",
    "FileEntry",
    "GraphEntry",
    "Invariance",
    "Latency",
    "Manifest",
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
    "check_files",
    "file_entry",
    "is_file_name",
    "read_manifest",
    "write_manifest",
]

SCHEMA_VERSION = 1
"""Raised when a reader of the old schema would misread the new one."""

MANIFEST_FILE = "manifest.json"
FULL = "full"
"""Name of the profile that drops nothing."""
ANYTIME = "anytime"
"""Name of the graph that takes its length config as an input."""

_HASH_CHUNK_BYTES = 1 << 20
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
    """Plain name, directly in the bundle's folder."""
    sha256: Sha256
    bytes: Count
    """Size."""


class Pooling(_Record, frozen=True, kw_only=True):
    """How the checkpoint's sentence-transformers files say to make an embedding."""

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
    """Feature extraction only."""
    mask_token_id: Count | None = None
    """The id that asks for a token; fill-mask and pretraining only."""


class Parity(_Record, frozen=True, kw_only=True):
    """How far a graph is from the PyTorch model (fp32) or from the fp32 graph of the same profile (int8)."""

    inputs: Positive
    """Input rows compared."""
    near_ties: Count
    """Rows left out because a token selection differed where the significance gap was below the tolerance."""
    max_abs_difference: float
    """On valid positions of the outputs."""
    agreement: float
    """fp32: share of rows in which the same tokens were kept. INT8: agreement of answers, 1 where all are equal."""


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
    """What ``value`` is, such as ``cosine``, ``label_agreement`` or ``span_agreement``."""
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


class GraphEntry(_Record, frozen=True, kw_only=True):
    """One ONNX graph."""

    profile: str
    precision: Precision
    target: Target | None
    """None for fp32, which runs anywhere."""
    file: str
    sha256: Sha256
    bytes: Count
    parity: Parity
    quality: Quality | None = None
    invariance: Invariance | None = None
    """Static INT8 only: fp32 is held to PyTorch instead, and dynamic INT8 depends on its batch by design."""
    latency: tuple[Latency, ...] = ()
    fp32_products: tuple[str, ...] = ()
    """INT8 graphs: modules that stay fp32 although they could be INT8, because the quality gate failed with them."""


class ProfileEntry(_Record, frozen=True, kw_only=True):
    """One length config under a name."""

    name: str
    length_config: tuple[int | float, ...] | None
    """One number a layer: counts or fractions. None for ``full``, and for ``anytime``, which takes it as an input."""


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
        names = [entry.file for entry in self.graphs] + [entry.file for entry in self.files]
        names += [self.probe.file] if self.probe else []
        for name in names:
            if not is_file_name(name):
                raise ValueError(f"file must be a plain name inside the bundle, got {name!r}")
        profiles = {profile.name for profile in self.profiles}
        if len(profiles) != len(self.profiles):
            raise ValueError("profiles must have unique names")
        unknown = sorted({graph.profile for graph in self.graphs} - profiles)
        if unknown:
            raise ValueError(f"graphs must belong to profiles of the manifest, got {', '.join(unknown)}")
        for profile in self.profiles:
            if profile.length_config is not None:
                LengthConfig(profile.length_config).check_layers(self.model.num_layers)

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """Every file of the bundle except the manifest, graphs first."""
        graphs = tuple(FileEntry(file=g.file, sha256=g.sha256, bytes=g.bytes) for g in self.graphs)
        return graphs + self.files


class _Header(Struct):
    """The two fields that every schema version keeps, so that an old reader can say what to install."""

    schema_version: int
    minimum_runtime: str


def is_file_name(name: str) -> bool:
    """Return whether ``name`` is a plain file name: letters, digits, ``._-``, no separator, not hidden."""
    return _FILE_NAME.fullmatch(name) is not None


def read_manifest(bundle: Path) -> Manifest:
    """Read and check ``manifest.json``; the other files are not touched.

    Args:
        bundle: Folder of the bundle.

    Returns:
        The manifest.

    Raises:
        BundleError: If it is missing, malformed, or of a newer schema.
    """
    path = bundle / MANIFEST_FILE
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise BundleError(
            f"A bundle must be a folder with a readable {MANIFEST_FILE}, got {bundle} ({err.strerror}). "
            "Make one with dynbert-export."
        ) from err
    try:
        header = msgspec.json.decode(raw, type=_Header)
        if header.schema_version > SCHEMA_VERSION:
            raise BundleError(
                f"{path}: schema version must be at most {SCHEMA_VERSION} for dynbert {version('dynbert')}, "
                f"got {header.schema_version}. Install dynbert>={header.minimum_runtime}."
            )
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise BundleError(f"{path} must follow the bundle schema, got: {err}. Export the bundle again.") from err


def write_manifest(bundle: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, indented for people.

    Args:
        bundle: Folder of the bundle.
        manifest: What to write.
    """
    encoded = msgspec.json.encode(manifest)
    (bundle / MANIFEST_FILE).write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")


def file_entry(path: Path) -> FileEntry:
    """Return the manifest's entry for a file on disk.

    Args:
        path: The file.

    Returns:
        Its name, size and checksum.
    """
    return FileEntry(file=path.name, sha256=_sha256(path), bytes=path.stat().st_size)


def check_files(bundle: Path, entries: tuple[FileEntry, ...], *, checksums: bool = True) -> None:
    """Hold files to what the manifest says of them.

    Args:
        bundle: Folder of the bundle.
        entries: The files to check.
        checksums: Whether to read every byte; sizes are always checked.

    Raises:
        BundleError: At the first file that is missing, a link, unreadable, of the wrong size or changed.
    """
    for entry in entries:
        path = bundle / entry.file
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{path} must be a regular file of the bundle, got none. Copy or export it again.")
        size = path.stat().st_size
        if size != entry.bytes:
            raise BundleError(f"{path} must have {entry.bytes} bytes, got {size}. Copy or export the bundle again.")
        if checksums and _readable_sha256(path) != entry.sha256:
            raise BundleError(f"{path} must have SHA-256 {entry.sha256}, got another. Copy or export the bundle again.")


def _readable_sha256(path: Path) -> str:
    try:
        return _sha256(path)
    except OSError as err:
        raise BundleError(f"{path} must be readable, got: {err.strerror}. Check its permissions.") from err


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
