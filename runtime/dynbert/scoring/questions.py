"""Questions with the spans of their contexts that answer them, as SQuAD and the hub's sets of its kind have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynbert.scoring.columns import ANSWERS, CONTEXT, QUESTION, text_at
from dynbert.scoring.examples import AnswerSpan, QuestionExample
from dynbert.scoring.records import RowFault
from dynbert.scoring.rows import Labelled, Rows, collect

if TYPE_CHECKING:
    from dynbert.scoring.records import Record

__all__ = ["read_questions"]


def read_questions(rows: Rows) -> Labelled:
    """Read questions; an answer that does not stand where it should is taken where it stands, if only once.

    Args:
        rows: With question, context, answers and maybe id and is_impossible.

    Returns:
        One example a question.

    Raises:
        DataError: If a row breaks a rule.
    """
    finder, records = rows.open()
    columns = rows.columns
    question = finder.require(QUESTION, columns.text)
    context = finder.require(CONTEXT, columns.pair)
    answers = finder.find(ANSWERS, columns.label)
    seen: set[str] = set()

    def read(record: Record) -> QuestionExample:
        name = record.values.get("id")
        key = record.where if name is None else str(name)
        if key in seen:
            raise RowFault(record.where, "have an id of its own for each question", got=f"{key!r} again")
        seen.add(key)
        passage = text_at(record, context)
        spans = _answers(record, answers[0] if answers else "answers", passage)
        return QuestionExample(key, text_at(record, question), passage, spans)

    return Labelled(collect(records, read, rows.source))


def _answers(record: Record, name: str, context: str) -> tuple[AnswerSpan, ...]:
    """Return the answers to a question, each found in its context."""
    given = record.values.get(name)
    is_impossible = record.values.get("is_impossible") is True
    if given is None and is_impossible:
        return ()
    if isinstance(given, dict):  # as the hub's sets have them: two lists
        texts, starts = given.get("text"), given.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise _answers_fault(record, name)
        given = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(given, list):
        raise _answers_fault(record, name)
    spans = tuple(dict.fromkeys(_answer(record, answer, name, context) for answer in given))
    if spans and is_impossible:
        raise RowFault(record.where, "have no answers where is_impossible is true", got=repr(spans[0].text))
    return spans


def _answers_fault(record: Record, name: str) -> RowFault:
    got = "something else" if name in record.values else "none"
    return RowFault(record.where, f"have {name!r} with text and answer_start for each question", got=got)


def _answer(record: Record, answer: Any, name: str, context: str) -> AnswerSpan:
    text = answer.get("text") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise _answers_fault(record, name)
    if not text.strip():
        raise RowFault(record.where, "have answers with a text", got="an empty one")
    start = answer.get("answer_start")
    if isinstance(start, int) and start >= 0 and context.startswith(text, start):
        return AnswerSpan(text, start)
    first = context.find(text)
    if first < 0:
        raise RowFault(record.where, "have answers that stand in their context", got=repr(text))
    if context.find(text, first + 1) >= 0:
        rule = "have answers that start at answer_start, or stand only once in their context"
        raise RowFault(record.where, rule, got=f"{text!r} at {start!r}")
    return AnswerSpan(text, first)
