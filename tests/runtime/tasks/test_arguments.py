"""The arguments of a call: declared once, the same for Python, its tools and the command."""

from __future__ import annotations

import inspect
import pydoc
import re

import click
import numpy as np
import pytest

import dynbert
from dynbert import Aggregation, cli
from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.model import DynamicBert
from dynbert.tasks.arguments import ARGUMENTS, Argument, KeywordArguments, describe_arguments
from dynbert.tasks.registry import task_spec

OPTIONS = {option.name: option for option in cli.run.params if option.name in ARGUMENTS}


def test_defaults_are_the_documented_ones():
    assert {name: argument.default for name, argument in ARGUMENTS.items() if argument.default is not None} == {
        "max_answer_tokens": 30,
        "aggregation": Aggregation.FIRST,
        "top_k": 5,
        "truncate": False,
        "batch_size": 8,
    }


def test_signature_tells_every_argument_with_its_default():
    parameters = inspect.signature(DynamicBert.__call__).parameters
    assert list(parameters) == ["self", "texts", "profile", "length_config", *KeywordArguments.__annotations__]
    assert {"texts", *KeywordArguments.__annotations__} == set(ARGUMENTS)
    for name, argument in ARGUMENTS.items():
        assert parameters[name].default == argument.default


def test_help_tells_every_argument():
    text = " ".join(pydoc.render_doc(DynamicBert.__call__, renderer=pydoc.plaintext).split())
    for name, argument in ARGUMENTS.items():
        assert f" {name}: {argument.doc}" in text
    assert "whole words. Default: 30." in text
    assert "see ``Aggregation``. Default: first." in text
    assert "**arguments" not in text


def test_encode_has_the_defaults_of_a_call():
    parameters = inspect.signature(DynamicBert.encode).parameters
    shared = task_spec(Task.FEATURE_EXTRACTION).optional
    assert {name: parameters[name].default for name in shared} == {name: ARGUMENTS[name].default for name in shared}


def test_describe_arguments_leaves_a_call_without_docstring_alone():
    def call(first: int, **arguments: int) -> int:
        return first + len(arguments)

    assert describe_arguments(call) is call
    assert call.__doc__ is None
    assert list(inspect.signature(call).parameters) == ["first", *KeywordArguments.__annotations__]
    assert call(1, other=2) == 2


def test_command_has_an_option_for_every_argument_in_their_order():
    assert list(OPTIONS) == list(ARGUMENTS)
    assert [option.opts for option in OPTIONS.values()] == [
        ["--text"],
        ["--text-pair"],
        ["--choice"],
        ["--question"],
        ["--context"],
        ["--stride"],
        ["--max-answer-tokens"],
        ["--aggregation"],
        ["--top-k"],
        ["--truncate"],
        ["--batch-size"],
    ]


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_option_is_as_its_argument_says(name):
    argument, option = ARGUMENTS[name], OPTIONS[name]
    assert (option.multiple, option.is_flag) == (argument.is_repeatable, argument.is_flag)
    smallest = option.type.min if isinstance(option.type, click.IntRange) else None
    values = list(option.type.choices) if isinstance(option.type, click.Choice) else None
    assert smallest == argument.least
    assert values == (None if argument.vocabulary is None else [item.value for item in argument.vocabulary])
    shown = re.fullmatch(r"(.*?)(?:  \[default: (.*)\])?", option.help)
    default = None if argument.default in {None, False} else str(argument.default)
    assert shown.groups() == (argument.option_help, default)


@pytest.mark.parametrize(
    ("argument", "value", "is_given"),
    [
        (Argument("", ""), None, False),
        (Argument("", ""), "", True),
        (Argument("", ""), [], True),
        (Argument("", "", least=0), 0, True),
        (Argument("", "", is_flag=True), False, False),
        (Argument("", "", is_flag=True), np.False_, False),
        (Argument("", "", is_flag=True), True, True),
    ],
)
def test_is_given_tells_a_value_from_nothing(argument, value, is_given):
    assert argument.is_given(value) is is_given


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stride", -1, "stride must be a whole number of at least 0, got -1."),
        ("stride", 1.5, "stride must be a whole number of at least 0, got 1.5."),
        ("max_answer_tokens", 0, "max_answer_tokens must be a whole number of at least 1, got 0."),
        ("top_k", "3", "top_k must be a whole number of at least 1, got '3'."),
        ("batch_size", True, "batch_size must be a whole number of at least 1, got True."),
        ("aggregation", "simple", "aggregation must be one of first, average, max, got 'simple'."),
    ],
)
def test_read_names_rule_and_value(name, value, message):
    with pytest.raises(InputError) as info:
        ARGUMENTS[name].read(name, value)
    assert str(info.value) == message


def test_read_gives_a_member_of_the_vocabulary():
    assert ARGUMENTS["aggregation"].read("aggregation", "max") is Aggregation.MAX
    assert ARGUMENTS["stride"].read("stride", 0) == 0


def test_read_call_completes_a_call():
    spec = task_spec(Task.TOKEN_CLASSIFICATION)
    given = {"texts": "a", "stride": 3, "aggregation": None, "question": None, "truncate": False}
    assert spec.read_call(given) == {
        "texts": "a",
        "stride": 3,
        "aggregation": Aggregation.FIRST,
        "batch_size": 8,
    }


@pytest.mark.parametrize("task", list(Task))
def test_misspelt_argument_is_a_type_error_that_names_those_of_the_task(task):
    spec = task_spec(task)
    with pytest.raises(TypeError) as info:
        spec.read_call({"texts": "a", "tpo_k": 3})
    first, second = str(info.value).split(". ")
    assert first == "DynamicBert.__call__() got an unexpected keyword argument 'tpo_k'"
    known = second.removeprefix(f"A bundle for {task.value} takes ").removesuffix(".").split(", ")
    assert set(known) == spec.needed | spec.optional | {"profile", "length_config"}


def test_misspelt_argument_is_refused_by_a_model(embedding_bundle):
    with pytest.raises(TypeError) as info:
        dynbert.load(embedding_bundle.folder)("the book", batchsize=3)
    assert str(info.value) == (
        "DynamicBert.__call__() got an unexpected keyword argument 'batchsize'. "
        "A bundle for feature-extraction takes texts, truncate, batch_size, profile, length_config."
    )


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        (
            Task.QUESTION_ANSWERING,
            {"question": "a"},
            (
                "A bundle for question-answering must be called as model(question=..., context=...), got question. "
                "Options: batch_size, max_answer_tokens, stride."
            ),
        ),
        (
            Task.FEATURE_EXTRACTION,
            {"texts": None},
            (
                "A bundle for feature-extraction must be called as model(texts), got no text. "
                "Options: batch_size, truncate."
            ),
        ),
        (
            Task.FILL_MASK,
            {"texts": "a", "stride": 3, "truncate": True},
            (
                "A bundle for fill-mask must be called as model(texts), got stride, texts, truncate. "
                "Options: batch_size, top_k."
            ),
        ),
    ],
)
def test_call_of_another_task_is_refused(task, given, message):
    with pytest.raises(InputError) as info:
        task_spec(task).read_call(given)
    assert str(info.value) == message
