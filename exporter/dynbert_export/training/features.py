"""Labelled examples as a model's inputs, and how rows become a batch.

Tokenizing, padding and stacking are transformers' own; here stands which tokens a label belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dynbert.inputs import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from dynbert.manifest import Task
from dynbert.scoring.examples import QuestionExample
from dynbert_export.tasks import ProblemType
from dynbert_export.training.objective import PAIR_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from dynbert.scoring.examples import ChoiceExample, LabelledData, PlainExample, TextExample, WordsExample

__all__ = ["Features", "Window", "list_questions", "make_collator", "make_features"]

_INPUTS = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)
_IGNORED = -100
"""The label of a token that has none."""
_STRIDE = 128
"""Tokens that neighbouring windows of a long context share, or half of the room if that is less; as in the runtime."""


class Window(NamedTuple):
    """A part of a question's context that is read at once."""

    example: int
    """Which question."""
    offsets: tuple[tuple[int, int] | None, ...]
    """For each token its characters in the context; None for tokens of other texts."""


@dataclass(frozen=True)
class Features:
    """The inputs of a model."""

    rows: Dataset
    """A row an input; labels as the head takes them."""
    lengths: tuple[int, ...]
    """Tokens of each row."""
    windows: tuple[Window, ...] = field(default=())
    """Question answering: what each row is a part of."""

    def sorted_by_length(self) -> Features:
        """Return the same rows, the longest first.

        Fractions of a length are those of the padded batch: among longer ones a short text would keep all of its
        tokens, and the model be judged by what no profile does.

        Returns:
            The rows, with their lengths and windows.
        """
        order = sorted(range(len(self.lengths)), key=lambda row: -self.lengths[row])
        windows = tuple(self.windows[row] for row in order) if self.windows else ()
        return Features(self.rows.select(order), tuple(self.lengths[row] for row in order), windows)


def make_features(data: LabelledData, tokenizer: PreTrainedTokenizerFast, *, max_length: int) -> Features:
    """Tokenize labelled examples.

    Args:
        data: The examples.
        tokenizer: As from ``load_training_tokenizer``.
        max_length: Longest input in tokens. Texts are cut, contexts of questions read in windows.

    Returns:
        At least one row an example.
    """
    from datasets import Dataset

    windows: tuple[Window, ...] = ()
    if data.task is Task.QUESTION_ANSWERING:
        rows, windows = _encode_questions(list_questions(data), tokenizer, max_length)
    else:
        encode = _ENCODERS[data.task]
        is_number = data.problem_type in {ProblemType.REGRESSION, ProblemType.RANKING, ProblemType.MULTI_LABEL}
        rows = [encode(example, tokenizer, max_length) for example in data.examples]
        if is_number:
            rows = [row | {"labels": _as_floats(row["labels"])} for row in rows]
    lengths = tuple(_count_tokens(row) for row in rows)
    return Features(Dataset.from_list(rows), lengths, windows)


def list_questions(data: LabelledData) -> tuple[QuestionExample, ...]:
    """Return the examples of a question answering task.

    Args:
        data: The examples.

    Returns:
        All of them.
    """
    return tuple(example for example in data.examples if isinstance(example, QuestionExample))


def make_collator(task: Task, tokenizer: PreTrainedTokenizerFast) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return what pads rows to the longest of a batch.

    Args:
        task: What the rows are for.
        tokenizer: As from ``load_training_tokenizer``.

    Returns:
        A function from rows to tensors.
    """
    from transformers import (
        DataCollatorForMultipleChoice,
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
    )

    if task is Task.MULTIPLE_CHOICE:
        return DataCollatorForMultipleChoice(tokenizer)
    if task is Task.TOKEN_CLASSIFICATION:
        return DataCollatorForTokenClassification(tokenizer)
    collate = DataCollatorWithPadding(tokenizer)
    return _PairCollator(collate) if task is Task.FEATURE_EXTRACTION else collate


@dataclass(frozen=True)
class _PairCollator:
    """Pads the texts of pairs apart; rows without a partner are texts alone."""

    collate: Callable[[list[dict[str, Any]]], Any]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        texts = [{name: row[name] for name in _INPUTS} for row in rows]
        batch = dict(self.collate(texts))
        partner = PAIR_PREFIX + INPUT_IDS
        if partner in rows[0]:
            partners = [{name: row[PAIR_PREFIX + name] for name in _INPUTS} for row in rows]
            batch |= {PAIR_PREFIX + name: tensor for name, tensor in self.collate(partners).items()}
        return batch


def _encode_text(example: TextExample, tokenizer: Any, max_length: int) -> dict[str, Any]:
    return _encode(tokenizer, example.text, example.pair, max_length) | {"labels": example.label}


def _encode_plain(example: PlainExample, tokenizer: Any, max_length: int) -> dict[str, Any]:
    row = _encode(tokenizer, example.text, None, max_length)
    if example.pair is None:
        return row
    partner = _encode(tokenizer, example.pair, None, max_length)
    return row | {PAIR_PREFIX + name: values for name, values in partner.items()}


def _encode_words(example: WordsExample, tokenizer: Any, max_length: int) -> dict[str, Any]:
    """A word's label is that of its first token (Devlin et al. 2019, section 5.3)."""
    encoded = tokenizer(list(example.words), is_split_into_words=True, truncation=True, max_length=max_length)
    words = encoded.word_ids()
    labels = [
        _IGNORED if word is None or word == before else example.labels[word]
        for before, word in zip([None, *words[:-1]], words, strict=True)
    ]
    return {name: encoded[name] for name in _INPUTS} | {"labels": labels}


def _encode_choices(example: ChoiceExample, tokenizer: Any, max_length: int) -> dict[str, Any]:
    rows = [_encode(tokenizer, example.text, choice, max_length) for choice in example.choices]
    return {name: [row[name] for row in rows] for name in _INPUTS} | {"labels": example.label}


_ENCODERS: Mapping[Task, Callable[[Any, Any, int], dict[str, Any]]] = {
    Task.TEXT_CLASSIFICATION: _encode_text,
    Task.TOKEN_CLASSIFICATION: _encode_words,
    Task.MULTIPLE_CHOICE: _encode_choices,
    Task.FEATURE_EXTRACTION: _encode_plain,
}


def _encode(tokenizer: Any, text: str, pair: str | None, max_length: int) -> dict[str, Any]:
    encoded = tokenizer(text, pair, truncation=True, max_length=max_length)
    return {name: encoded[name] for name in _INPUTS}


def _encode_questions(
    examples: Sequence[QuestionExample], tokenizer: Any, max_length: int
) -> tuple[list[dict[str, Any]], tuple[Window, ...]]:
    """Return a row for each window of each context; a window without the answer points to CLS."""
    rows: list[dict[str, Any]] = []
    windows: list[Window] = []
    for number, example in enumerate(examples):
        for row, window in _encode_windows(number, example, tokenizer, max_length):
            rows.append(row)
            windows.append(window)
    return rows, tuple(windows)


def _encode_windows(
    number: int, example: QuestionExample, tokenizer: Any, max_length: int
) -> Iterator[tuple[dict[str, Any], Window]]:
    question = _cut(example.question, tokenizer, max_length // 2)
    taken = len(tokenizer(question)[INPUT_IDS])
    encoded = tokenizer(
        question,
        example.context,
        truncation="only_second",
        max_length=max_length,
        stride=min(_STRIDE, max(max_length - taken - 1, 0) // 2),  # the pair's last SEP is one token more
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    for index in range(len(encoded[INPUT_IDS])):
        sides = encoded.sequence_ids(index)
        offsets = tuple(
            tuple(span) if side == 1 else None
            for side, span in zip(sides, encoded["offset_mapping"][index], strict=True)
        )
        start, end = _find_span(example, offsets)
        row = {name: encoded[name][index] for name in _INPUTS}
        yield row | {"start_positions": start, "end_positions": end}, Window(number, offsets)


def _cut(text: str, tokenizer: Any, tokens: int) -> str:
    """Return the beginning of a text that has at most so many tokens."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]


def _find_span(example: QuestionExample, offsets: Sequence[tuple[int, int] | None]) -> tuple[int, int]:
    """Return the first and the last token of the first answer; CLS twice where the window has not all of it."""
    if not example.answers:
        return 0, 0
    answer = example.answers[0]
    first = answer.start + len(answer.text) - len(answer.text.lstrip())  # no token has the blanks around it
    stop = answer.start + len(answer.text.rstrip())
    inside = [index for index, span in enumerate(offsets) if span is not None and span[0] < stop and span[1] > first]
    if not inside or offsets[inside[0]][0] > first or offsets[inside[-1]][1] < stop:  # type: ignore[index]  # inside has spans only
        return 0, 0
    return inside[0], inside[-1]


def _as_floats(labels: Any) -> Any:
    return [float(each) for each in labels] if isinstance(labels, (list, tuple)) else float(labels)


def _count_tokens(row: Mapping[str, Any]) -> int:
    """Return a row's tokens; of choices those of the longest, of pairs those of both."""
    ids = row[INPUT_IDS]
    if ids and isinstance(ids[0], list):
        return max(map(len, ids))
    return len(ids) + len(row.get(PAIR_PREFIX + INPUT_IDS, ()))
