"""Embeddings: one vector a text, pooled from its tokens' states as sentence-transformers pools them.

The graphs of a pooled bundle have pooled already. Those of a bundle of token states leave it to this module, which then
can pool in another way than the checkpoint's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.graph_rows import pooling_text
from dynbert.manifest import Embeddings, Pooling, PoolingMode, Task
from dynbert.outputs import LAST_HIDDEN_STATE, SENTENCE_EMBEDDING
from dynbert.tables import format_table, shorten
from dynbert.tasks.base import TaskSpec
from dynbert.tasks.texts import as_texts, text_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from dynbert.manifest import ModelInfo
    from dynbert.tasks.arguments import Texts
    from dynbert.tasks.base import Given, Row, Shapes, TaskContext

__all__ = ["SPEC", "embed", "pool"]

_DEFAULT_POOLING = Pooling(mode=PoolingMode.MEAN, normalize=False)
"""For a checkpoint without sentence-transformers files; what that library takes too."""
_LEAST_TOKENS = 1e-9
_LEAST_NORM = 1e-12
_MOST_COMPARED = 10
"""Texts of which the command prints how similar each is to each; of more, each one's nearest."""
_NUMBERS_SHOWN = 4
_NARROW_NUMBERS, _NARROW_TEXT = 2, 30
"""Numbers of an embedding and characters of a text that leave room for the nearest one."""
_ROWS_COMPARED = 256
"""Rows of the similarities that are in memory at a time."""


def embed(
    task: TaskContext,
    texts: Texts,
    *,
    truncate: bool,
    batch_size: int,
    pooling: Pooling | PoolingMode | str | None = None,
) -> NDArray[np.float32]:
    """Embed one or several texts.

    Args:
        task: The bundle's side of the call.
        texts: A text, or a list of them.
        truncate: Whether to cut what is longer than the model's maximum length.
        batch_size: Most texts to run together, at least 1.
        pooling: None: as the bundle says. A mode alone (``"mean"``, ``"cls"``) keeps the bundle's normalisation.
            Graphs that pool can do nothing else than they do.

    Returns:
        float32 [hidden] for a single text, [texts, hidden] for a list, in the texts' order.

    Raises:
        InputError: If a text has no token, or is too long and may not be cut, or there is no such pooling, or the
            graphs pool in another way.
    """
    items, is_single = as_texts(texts)
    read = _choose_reader(_resolve_pooling(pooling, task.model.pooling), task.model)
    embeddings = np.empty((len(items), task.model.hidden_size), np.float32)
    for row in task.run_rows(task.tokenizer.encode(items, truncate=truncate), batch_size):
        embeddings[row.index] = read(row)
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
        embeddings = _as_unit(embeddings)
    return np.asarray(embeddings, np.float32)


def _choose_reader(pooling: Pooling, model: ModelInfo) -> Callable[[Row], NDArray[Any]]:
    """Return what makes an embedding, [hidden], of what a graph gave for a row."""
    if model.embeddings is not Embeddings.POOLED:
        return lambda row: pool(row.output(LAST_HIDDEN_STATE)[None], row.mask[None], pooling)[0]
    if pooling != model.pooling:
        own, got = pooling_text(model.pooling), pooling_text(pooling)
        raise InputError(
            f"pooling must be that of this bundle's graphs, which pool ({own}), got {got}. "
            f"Leave it out, or export with --embeddings {Embeddings.TOKEN_STATES.value} to choose at each call."
        )
    return lambda row: row.output(SENTENCE_EMBEDDING)


def _resolve_pooling(pooling: Pooling | PoolingMode | str | None, stated: Pooling | None) -> Pooling:
    """Return the pooling to use; ``stated`` is the bundle's own, if it has one."""
    default = stated or _DEFAULT_POOLING
    if pooling is None:
        return default
    if isinstance(pooling, Pooling):
        return pooling
    try:
        return Pooling(mode=PoolingMode(pooling), normalize=default.normalize)
    except ValueError as err:
        modes = ", ".join(mode.value for mode in PoolingMode)
        raise InputError(f"pooling must be one of {modes}, or a Pooling, got {pooling!r}.") from err


def _output_shapes(model: ModelInfo, rows: int, tokens: int) -> Shapes:
    if model.embeddings is Embeddings.POOLED:
        return {SENTENCE_EMBEDDING: (rows, model.hidden_size)}
    return {LAST_HIDDEN_STATE: (rows, tokens, model.hidden_size)}


def _to_json(given: Given, embeddings: NDArray[np.float32]) -> list[dict[str, Any]]:
    return [
        record | {"embedding": embedding.tolist()}
        for record, embedding in zip(text_records(given), embeddings, strict=True)
    ]


def _to_text(given: Given, embeddings: NDArray[np.float32]) -> str:
    """Return the first numbers of each embedding and, where there are several, how similar the texts are."""
    texts = given["texts"]
    if len(texts) > _MOST_COMPARED:
        return _nearest_table(texts, embeddings)
    numbers = [str(number) for number in range(1, len(texts) + 1)]
    rows = [
        (number, shorten(text), _first_numbers(embedding, _NUMBERS_SHOWN))
        for number, text, embedding in zip(numbers, texts, embeddings, strict=True)
    ]
    shown = format_table(rows, ["", "text", _heading(embeddings)])
    if len(texts) == 1:
        return shown
    unit = _as_unit(embeddings)
    cosines = [
        (number, shorten(text), *(f"{cosine:.3f}" for cosine in row))
        for number, text, row in zip(numbers, texts, unit @ unit.T, strict=True)
    ]
    return f"{shown}\n\nCosine similarity\n{format_table(cosines, ['', 'text', *numbers])}"


def _nearest_table(texts: Sequence[str], embeddings: NDArray[np.float32]) -> str:
    """Return one row a text, with the text that is most similar to it: a table as wide as a terminal, 80 characters."""
    rows = [
        (str(number), shorten(text, _NARROW_TEXT), _first_numbers(embedding, _NARROW_NUMBERS), nearest)
        for number, (text, embedding, nearest) in enumerate(
            zip(texts, embeddings, _nearest_texts(embeddings), strict=True), start=1
        )
    ]
    return format_table(rows, ["", "text", _heading(embeddings), "most similar"])


def _nearest_texts(embeddings: NDArray[np.float32]) -> Iterator[str]:
    """Yield for each text the number of the most similar other one, and the cosine."""
    unit = _as_unit(embeddings)
    for start in range(0, len(unit), _ROWS_COMPARED):
        cosines = unit[start : start + _ROWS_COMPARED] @ unit.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        for other, row in zip(cosines.argmax(axis=1), cosines, strict=True):
            yield f"{other + 1} ({row[other]:.3f})"


def _as_unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(norms, _LEAST_NORM), np.float32)


def _heading(embeddings: NDArray[np.float32]) -> str:
    return f"embedding ({embeddings.shape[1]} numbers)"


def _first_numbers(embedding: NDArray[np.float32], count: int) -> str:
    return " ".join(f"{value:+.4f}" for value in embedding[:count]) + " ..."


SPEC = TaskSpec(
    Task.FEATURE_EXTRACTION,
    call="model(texts)",
    needed=frozenset({"texts"}),
    optional=frozenset({"truncate", "batch_size"}),
    answer=embed,
    output_shapes=_output_shapes,
    to_json=_to_json,
    to_text=_to_text,
)
