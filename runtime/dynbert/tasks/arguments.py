"""The arguments of a model's call: each is declared once, and what Python, its tools and the command know follows.

An argument is a key of ``KeywordArguments`` (or ``texts``, the one that may be positional). The key's type is what type
checkers hold ``model(...)`` to; the ``Argument`` beside it says what a call checks, which value it takes where none is
given, and what the command's option looks like. Which arguments a task takes, its spec names.

This module imports nothing lazily and has no ``from __future__ import annotations``: its annotations are read at run
time.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, TypedDict, TypeVar, cast, get_type_hints

from dynbert.errors import InputError

__all__ = [
    "ARGUMENTS",
    "DEFAULT_BATCH_SIZE",
    "Aggregation",
    "Argument",
    "KeywordArguments",
    "Texts",
    "describe_arguments",
]

DEFAULT_BATCH_SIZE = 8
"""Most texts that run together where a call does not say; measured in ``base``."""

Texts = str | Iterable[str]
"""A text, or several: a list, a tuple, an array, a generator."""

_Call = TypeVar("_Call", bound=Callable[..., Any])
_PLACE = "**arguments:"
_DOC_WIDTH = 108


class Aggregation(StrEnum):
    """How a word's pieces decide on its label; the names and meanings of Hugging Face's pipeline."""

    FIRST = "first"
    """The first piece decides."""
    AVERAGE = "average"
    """The mean of the pieces' probabilities does."""
    MAX = "max"
    """The piece with the highest probability of any label does."""


@dataclass(frozen=True)
class Argument:
    """What there is to know of an argument beside its name and its type."""

    doc: str
    """What it is, for Python's ``help()``."""
    option_help: str
    """The same for the command's ``--help``."""
    default: Any = None
    """What a call takes where it is not given."""
    least: int | None = None
    """Smallest value of a whole number; None for what is no number."""
    vocabulary: type[StrEnum] | None = None
    """The values that it may have; None for what has none of its own."""
    is_flag: bool = False
    """Whether it is on or off; off is as good as not given."""
    is_repeatable: bool = False
    """Whether the command takes the option several times, for a list."""
    option: str | None = None
    """The command's option; None where it is spelt like the argument."""

    def is_given(self, value: object) -> bool:
        """Return whether a value asks for something.

        Args:
            value: What a call or the command passes.

        Returns:
            Whether it is not None and, for a flag, on.
        """
        return value is not None and (not self.is_flag or bool(value))

    def read(self, name: str, value: Any) -> Any:
        """Check a value that was given.

        Args:
            name: The argument's name, for the message.
            value: The value.

        Returns:
            The value, as a member where there is a vocabulary.

        Raises:
            InputError: If it is no whole number or too small, or not in the vocabulary.
        """
        if self.least is not None and (isinstance(value, bool) or not isinstance(value, int) or value < self.least):
            raise InputError(f"{name} must be a whole number of at least {self.least}, got {value!r}.")
        if self.vocabulary is None:
            return value
        try:
            return self.vocabulary(value)
        except ValueError as err:
            known = ", ".join(item.value for item in self.vocabulary)
            raise InputError(f"{name} must be one of {known}, got {value!r}.") from err


class _PositionalArgument(TypedDict, total=False):
    texts: Annotated[
        Texts | None,
        Argument(
            doc="For every task but question answering: a text, or a list of them.",
            option_help="Text to read; repeatable. '-' reads one text a line.",
            is_repeatable=True,
            option="--text",
        ),
    ]


class KeywordArguments(TypedDict, total=False):
    """What a call may be given by keyword, beside the profile and the length config; in the order of messages."""

    text_pair: Annotated[
        Texts | None,
        Argument(
            doc="For next sentence prediction, and if wanted text classification and pretraining: the second text, "
            "or a list of as many.",
            option_help="Second text of a pair; repeatable, one for each text.",
            is_repeatable=True,
        ),
    ]
    choices: Annotated[
        Iterable[str] | Iterable[Iterable[str]] | None,
        Argument(
            doc="For multiple choice: the choices, or for a list of texts a list of as many lists.",
            option_help="Text to choose from; repeatable. Every text has the same choices.",
            is_repeatable=True,
            option="--choice",
        ),
    ]
    question: Annotated[
        Texts | None,
        Argument(
            doc="For question answering: a question, or a list of them.",
            option_help="Question to answer from the context.",
        ),
    ]
    context: Annotated[
        Texts | None,
        Argument(
            doc="For question answering: the text to answer from, or a list of as many.",
            option_help="Text to answer from. '-' reads all of standard input.",
        ),
    ]
    stride: Annotated[
        int | None,
        Argument(
            doc="For question answering and token classification: tokens that neighbouring windows of a long text "
            "share, at least 0; None for 128, or half a window where that is less.",
            option_help="Tokens that windows of a long text share.",
            least=0,
        ),
    ]
    max_answer_tokens: Annotated[
        int | None,
        Argument(
            doc="For question answering: the longest answer, at least 1, before it grows to whole words.",
            option_help="Longest answer.",
            default=30,
            least=1,
        ),
    ]
    aggregation: Annotated[
        Aggregation | str | None,
        Argument(
            doc="For token classification: which pieces label a word, see ``Aggregation``.",
            option_help="How the pieces of a word decide on its label.",
            default=Aggregation.FIRST,
            vocabulary=Aggregation,
        ),
    ]
    top_k: Annotated[
        int | None,
        Argument(
            doc="For fill-mask and pretraining: candidates for each mask, at least 1; no more than the vocabulary has.",
            option_help="Candidates for each mask.",
            default=5,
            least=1,
        ),
    ]
    truncate: Annotated[
        bool,
        Argument(
            doc="Whether to cut what is longer than ``max_length`` (of a pair the longer text); else it is refused. "
            "Not where a mask could get lost.",
            option_help="Cut texts that are too long; else they are refused.",
            default=False,
            is_flag=True,
        ),
    ]
    batch_size: Annotated[
        int | None,
        Argument(
            doc="Most texts (windows, pairs, choices) to run together, at least 1; fewer where they are long.",
            option_help="Most texts to run together.",
            default=DEFAULT_BATCH_SIZE,
            least=1,
        ),
    ]


class _Arguments(_PositionalArgument, KeywordArguments, total=False):
    """All of them, in the order of messages."""


ARGUMENTS: Mapping[str, Argument] = MappingProxyType(
    {name: hint.__metadata__[0] for name, hint in get_type_hints(_Arguments, include_extras=True).items()}
)
"""Every argument by its name, in the order of messages."""


def describe_arguments(call: _Call) -> _Call:
    """Write the arguments into the signature and docstring of a call that takes them as ``**arguments``.

    For ``help()`` and whatever else asks at run time; type checkers read ``KeywordArguments``.

    Args:
        call: The function; its docstring has a line that starts with ``**arguments:``, which gives way.

    Returns:
        The same function.
    """
    signature = inspect.signature(call)
    hints = get_type_hints(KeywordArguments)
    parameters = [item for item in signature.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=ARGUMENTS[name].default, annotation=hint)
        for name, hint in hints.items()
    ]
    cast("Any", call).__signature__ = signature.replace(parameters=parameters)
    if call.__doc__ is not None:  # it is None under python -OO
        lines = call.__doc__.splitlines()
        [place] = [index for index, line in enumerate(lines) if line.lstrip().startswith(_PLACE)]
        indent = lines[place][: -len(lines[place].lstrip())]
        lines[place : place + 1] = [line for name in hints for line in _doc_lines(name, indent)]
        call.__doc__ = "\n".join(lines)
    return call


def _doc_lines(name: str, indent: str) -> list[str]:
    argument = ARGUMENTS[name]
    default = "" if argument.default is None or argument.is_flag else f" Default: {argument.default}."
    text = f"{name}: {argument.doc}{default}"
    return textwrap.wrap(text, _DOC_WIDTH, initial_indent=indent, subsequent_indent=indent + "    ")
