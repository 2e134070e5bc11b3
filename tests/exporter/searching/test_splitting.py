"""What is kept aside: what belongs together stays together, and data that says nothing is refused."""

from __future__ import annotations

import pytest

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring.examples import (
    AnswerSpan,
    ChoiceExample,
    LabelledData,
    PlainExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from dynbert_export.searching.splitting import FEWEST_EXAMPLES, as_part, is_retrieval, split_data


def _texts(count=100, *, labels=2, copies=1):
    examples = [TextExample(f"text {number // copies}", None, number % labels) for number in range(count)]
    return LabelledData(Task.TEXT_CLASSIFICATION, tuple(examples), ("no", "yes"), "single_label_classification", "t")


def _queries(count=60, passages=20):
    pairs = [PlainExample(f"query {number}", f"passage {number % passages}", None) for number in range(count)]
    return LabelledData(Task.FEATURE_EXTRACTION, tuple(pairs), (), None, "q")


def test_parts_have_everything_once_and_the_asked_share():
    data = _texts()
    searched, aside = split_data(data, share=0.3, seed=0)
    assert len(aside.data.examples) == 30
    both = [*searched.data.examples, *aside.data.examples]
    assert sorted(both, key=lambda each: int(each.text.split()[1])) == list(data.examples)
    assert (searched.data.name, aside.data.name) == ("t, 70 searched by", "t, 30 kept aside")
    assert searched.passages == ()


def test_the_seed_decides_what_is_kept_aside():
    one, again, other = (split_data(_texts(), share=0.3, seed=seed)[1] for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_equal_texts_stay_together():
    searched, aside = split_data(_texts(120, copies=4), share=0.4, seed=0)
    assert not {each.text for each in searched.data.examples} & {each.text for each in aside.data.examples}


def test_questions_of_one_context_stay_together():
    examples = tuple(
        QuestionExample(str(number), f"q{number}", f"context {number % 12}", (AnswerSpan("context", 0),))
        for number in range(96)
    )
    data = LabelledData(Task.QUESTION_ANSWERING, examples, (), None, "s")
    searched, aside = split_data(data, share=0.4, seed=0)
    assert not {each.context for each in searched.data.examples} & {each.context for each in aside.data.examples}


def test_queries_are_split_and_passages_are_not():
    searched, aside = split_data(_queries(), share=0.4, seed=0)
    assert is_retrieval(searched.data)
    assert not {each.text for each in searched.data.examples} & {each.text for each in aside.data.examples}
    assert searched.passages == aside.passages
    assert len(searched.passages) == 20


def test_a_query_keeps_all_its_passages():
    pairs = tuple(PlainExample(f"query {number % 40}", f"passage {number}", None) for number in range(80))
    data = LabelledData(Task.FEATURE_EXTRACTION, pairs, (), None, "q")
    for part in split_data(data, share=0.4, seed=0):
        counts = [sum(other.text == each.text for other in part.data.examples) for each in part.data.examples]
        assert set(counts) == {2}


def test_too_little_data_is_refused():
    with pytest.raises(
        InputError, match="at least 16 examples to search by and as many to keep aside, got 16 and 4 of t"
    ):
        split_data(_texts(20), share=0.2, seed=0)
    with pytest.raises(InputError, match="at least 16 examples, got 10 in t"):
        as_part(_texts(10))
    with pytest.raises(InputError, match="got 12 and 8 of q"):
        split_data(_queries(20), share=0.4, seed=0)


def _alike(kind):
    examples = {
        Task.TEXT_CLASSIFICATION: TextExample("a", None, 1),
        Task.TOKEN_CLASSIFICATION: WordsExample(("a", "b"), (1, 1)),
        Task.FEATURE_EXTRACTION: PlainExample("a", "b", 0.5),
    }
    return LabelledData(kind, (examples[kind],) * FEWEST_EXAMPLES, ("no", "yes"), None, "alike")


@pytest.mark.parametrize(
    ("task", "label"),
    [(Task.TEXT_CLASSIFICATION, "'yes'"), (Task.TOKEN_CLASSIFICATION, "'yes'"), (Task.FEATURE_EXTRACTION, "0.5")],
)
def test_one_label_alone_is_refused(task, label):
    with pytest.raises(InputError, match=f"at least two different labels, got {label} alone in alike"):
        as_part(_alike(task))


def test_choices_and_questions_need_no_variety():
    examples = (ChoiceExample("a", ("b", "c"), 0),) * FEWEST_EXAMPLES
    part = as_part(LabelledData(Task.MULTIPLE_CHOICE, examples, (), None, "c"))
    assert len(part.data.examples) == FEWEST_EXAMPLES


def test_single_texts_cannot_be_searched_by():
    plain = tuple(PlainExample(f"text {number}", None, None) for number in range(40))
    with pytest.raises(InputError, match="must have pairs of texts, got single texts in p"):
        as_part(LabelledData(Task.FEATURE_EXTRACTION, plain, (), None, "p"))
