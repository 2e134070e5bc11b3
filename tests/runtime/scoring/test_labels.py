"""Labels as files have them, and as a model counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert.scoring.examples import ProblemType
from dynbert.scoring.labels import ClassNames, guess_problem, number_of, read_class, read_classes, sorted_names
from dynbert.scoring.records import RowFault


@pytest.mark.parametrize(
    ("values", "names", "problem"),
    [
        (["a", "b"], (), ProblemType.SINGLE_LABEL),
        (["1", "0"], (), ProblemType.SINGLE_LABEL),
        ([1, 0], (), ProblemType.SINGLE_LABEL),
        ([True, False], (), ProblemType.SINGLE_LABEL),
        (["0.5", "1"], (), ProblemType.REGRESSION),
        ([0.5, 1], (), ProblemType.REGRESSION),
        (["0.5", "1"], ("score",), ProblemType.REGRESSION),
        (["0.5", "1"], ("0.5", "1"), ProblemType.SINGLE_LABEL),
        (["0.5", "a"], (), ProblemType.SINGLE_LABEL),
        (["nan", "inf"], (), ProblemType.SINGLE_LABEL),
        ([["a"], []], (), ProblemType.MULTI_LABEL),
        (["a|b"], (), ProblemType.SINGLE_LABEL),
    ],
)
def test_guess_problem(values, names, problem):
    assert guess_problem(values, names=names) is problem


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        ([10, 9], ("9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["1", "01"], ("01", "1")),
        ([], ()),
    ],
)
def test_sorted_names_go_by_value_where_all_are_whole_numbers(labels, names):
    assert sorted_names(labels) == names


@pytest.mark.parametrize(
    ("names", "label", "index"),
    [
        (("neg", "pos"), "pos", 1),
        (("neg", "pos"), "POS", 1),
        (("neg", "pos"), 1, 1),
        (("neg", "pos"), "0", 0),
        (("1", "2"), 1, 0),
        (("1", "2"), "2", 1),
        (("LABEL_0", "LABEL_1"), 1, 1),
        (("a", "A"), "A", 1),
        (("true", "false"), "true", 0),
    ],
)
def test_class_names_know_a_label_by_name_and_else_by_index(names, label, index):
    assert ClassNames(names).index("row 1", label) == index


@pytest.mark.parametrize(
    ("names", "label", "rule", "remedy"),
    [
        (("neg", "pos"), "neutral", "have known labels only", "Known are neg, pos."),
        (("neg", "pos"), 2, "have whole numbers from 0 to 1 as labels", "Known are neg, pos."),
        (("neg", "pos"), -1, "have whole numbers from 0 to 1 as labels", "Known are neg, pos."),
        (("1", "2"), 0, "have known labels only", "Known are 1, 2."),
        (("a", "A", "b"), "B ", "have known labels only", "Known are a, A, b."),
        (
            tuple(f"c{n}" for n in range(30)),
            "x",
            "have known labels only",
            f"{', '.join(f'c{n}' for n in range(20))}, ...",
        ),
    ],
)
def test_class_names_refuse_what_they_do_not_know(names, label, rule, remedy):
    with pytest.raises(RowFault) as caught:
        ClassNames(names).index("row 1", label)
    assert caught.value.rule == rule
    assert remedy in caught.value.remedy


@given(names=st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=6, unique=True))
def test_every_name_means_its_own_index(names):
    known = ClassNames(tuple(names))
    assert [known.index("row 1", name) for name in names] == list(range(len(names)))


@pytest.mark.parametrize(
    ("value", "classes"),
    [("a| b", ("a", "b")), ("", ()), (["x", 2], ("x", 2)), ([], ()), ("a", ("a",))],
)
def test_read_classes(value, classes):
    assert read_classes("row 1", value) == classes


@pytest.mark.parametrize(
    ("read", "value", "rule"),
    [
        (read_class, " ", "have a label in every row"),
        (read_class, 0.5, "have texts or whole numbers as labels"),
        (read_class, ["a"], "have texts or whole numbers as labels"),
        (read_classes, 3, "have lists of labels, or labels with | between"),
        (read_classes, ["a", "a"], "have a label once in a list"),
        (read_classes, "a||b", "have a label in every row"),
        (number_of, "a", "have finite numbers as labels"),
        (number_of, True, "have finite numbers as labels"),
        (number_of, float("nan"), "have finite numbers as labels"),
        (number_of, "1e999", "have finite numbers as labels"),
        (number_of, 10**400, "have finite numbers as labels"),
        (number_of, "1_0", "have finite numbers as labels"),
    ],
)
def test_labels_of_the_wrong_kind_are_refused(read, value, rule):
    with pytest.raises(RowFault) as caught:
        read("row 1", value)
    assert caught.value.rule == rule


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_of_reads_what_python_writes(number):
    assert number_of("row 1", repr(number)) == number
    assert number_of("row 1", number) == number
