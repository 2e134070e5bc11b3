"""Embeddings: one vector a text, pooled from its tokens' states exactly as sentence-transformers pools them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert.tables import format_table, shorten
from dynbert.tasks.base import DEFAULT_BATCH_SIZE, TaskSpec, as_texts, check_whole_number, text_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dynbert.manifest import ModelInfo
    from dynbert.tasks.base import Arguments, Shapes, TaskContext

__all__ = ["SPEC", "EncodeOptions", "encode", "pool"]

_DEFAULT_POOLING = Pooling(mode=PoolingMode.MEAN, normalize=False)
"""For a checkpoint without sentence-transformers files; what that library takes too."""
_LEAST_TOKENS = 1e-9
_LEAST_NORM = 1e-12
_DIMENSIONS_SHOWN = 4


@dataclass(frozen=True)
class EncodeOptions:
    """How to make embeddings.

    Raises:
        InputError: On construction, when a value is out of its range.
    """

    batch_size: int = DEFAULT_BATCH_SIZE
    """Most texts to run together, at least 1."""
    truncate: bool = False
    """Whether to cut what is longer than the model's maximum length."""
    pooling: Pooling | PoolingMode | str | None = None
    """None: as the bundle says. A mode alone (``"mean"``, ``"cls"``) keeps the bundle's normalisation."""

    def __post_init__(self) -> None:
        check_whole_number("batch_size", self.batch_size, least=1)
        if self.pooling is None or isinstance(self.pooling, Pooling):
            return
        try:
            PoolingMode(self.pooling)
        except ValueError as err:
            modes = ", ".join(mode.value for mode in PoolingMode)
            raise InputError(f"pooling must be one of {modes}, or a Pooling, got {self.pooling!r}.") from err

    def resolve_pooling(self, stated: Pooling | None) -> Pooling:
        """Return the pooling to use.

        Args:
            stated: The bundle's own, if it has one.

        Returns:
            Mode and normalisation.
        """
        default = stated or _DEFAULT_POOLING
        if self.pooling is None:
            return default
        if isinstance(self.pooling, Pooling):
            return self.pooling
        return Pooling(mode=PoolingMode(self.pooling), normalize=default.normalize)


def encode(task: TaskContext, texts: str | Sequence[str], options: EncodeOptions) -> NDArray[np.float32]:
    """Embed one or several texts.

    Args:
        task: The bundle's side of the call.
        texts: A text, or a list of them.
        options: How to.

    Returns:
        float32 [hidden] for a single text, [texts, hidden] for a list, in the texts' order.

    Raises:
        InputError: If a text has no token, or is too long and may not be cut.
    """
    items, is_single = as_texts(texts)
    pooling = options.resolve_pooling(task.model.pooling)
    embeddings = np.empty((len(items), task.model.hidden_size), np.float32)
    for row in task.run_rows(task.tokenizer.encode(items, truncate=options.truncate), options.batch_size):
        embeddings[row.index] = pool(row.output("last_hidden_state")[None], row.mask[None], pooling)[0]
    return np.asarray(embeddings[0]) if is_single else embeddings


def pool(states: NDArray[Any], mask: NDArray[np.int64], pooling: Pooling) -> NDArray[np.float32]:
    """Make embeddings of token states.

    Args:
        states: Float [batch, tokens, hidden].
        mask: int64 [batch, tokens], 1 for tokens and 0 for padding.
        pooling: How to.

    Returns:
        float32 [batch, hidden].
    """
    if pooling.mode is PoolingMode.CLS:
        embeddings = states[:, 0].astype(np.float32)
    else:
        weights = mask[:, :, None].astype(np.float32)
        embeddings = (states * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), _LEAST_TOKENS)
    if pooling.normalize:
        embeddings = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), _LEAST_NORM)
    return np.asarray(embeddings, np.float32)


def _answer(task: TaskContext, given: Arguments) -> NDArray[np.float32]:
    return encode(task, given["texts"], EncodeOptions(truncate=given.get("truncate", EncodeOptions.truncate)))


def _output_shapes(model: ModelInfo, rows: int, tokens: int) -> Shapes:
    return {"last_hidden_state": (rows, tokens, model.hidden_size)}


def _to_json(given: Arguments, embeddings: NDArray[np.float32]) -> list[dict[str, Any]]:
    return [
        record | {"embedding": embedding.tolist()}
        for record, embedding in zip(text_records(given), embeddings, strict=True)
    ]


def _to_text(given: Arguments, embeddings: NDArray[np.float32]) -> str:
    """Return the first numbers of each embedding and, where there are several, how similar the texts are."""
    texts = given["texts"]
    numbers = [str(number) for number in range(1, len(texts) + 1)]
    hidden = embeddings.shape[1]
    rows = [
        (number, shorten(text), " ".join(f"{value:+.4f}" for value in embedding[:_DIMENSIONS_SHOWN]) + " ...")
        for number, text, embedding in zip(numbers, texts, embeddings, strict=True)
    ]
    shown = format_table(rows, ["", "text", f"embedding ({hidden} numbers)"])
    if len(texts) == 1:
        return shown
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), _LEAST_NORM)
    cosines = [
        (number, shorten(text), *(f"{cosine:.3f}" for cosine in row))
        for number, text, row in zip(numbers, texts, unit @ unit.T, strict=True)
    ]
    return f"{shown}\n\nCosine similarity\n{format_table(cosines, ['', 'text', *numbers])}"


SPEC = TaskSpec(
    Task.FEATURE_EXTRACTION,
    call="model(texts)",
    needed=frozenset({"texts"}),
    optional=frozenset({"truncate"}),
    answer=_answer,
    output_shapes=_output_shapes,
    to_json=_to_json,
    to_text=_to_text,
)
