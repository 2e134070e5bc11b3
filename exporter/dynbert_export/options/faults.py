"""What pydantic finds wrong with the options of an export, in the words of "X must be RULE, got VALUE"."""

from __future__ import annotations

import re
import reprlib
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["explain_faults"]

_RULES = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "path_type": "a path",
    "string_too_short": "a hub id or a folder",
    "string_type": "text",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
}
"""pydantic's error types in the words of "X must be RULE"."""


def explain_faults(
    error: ValidationError, *, options: Sequence[str], sections: Sequence[str], purpose: str
) -> Iterator[str]:
    """Yield each fault as a sentence; unknown keys share one.

    Args:
        error: What pydantic found.
        options: Names of the options there are.
        sections: Names of what is inside an option, such as ``gates.int8_min_cosine``.
        purpose: What they are options of.

    Yields:
        The sentences.
    """
    details = error.errors(include_url=False)
    unknown = [_name(detail) for detail in details if detail["type"] == "extra_forbidden"]
    if unknown:
        yield _explain_unknown(unknown, options, sections, purpose)
    for detail in details:
        if detail["type"] == "missing":
            yield f"{_name(detail)} must be given. Pass it as an option or in the recipe."
        elif detail["type"] == "invalid_key":
            yield f"Keys must be text, got {_name(detail)}. Put it in quotes, or take it out."
        elif detail["type"] == "value_error":
            yield from str(detail["ctx"]["error"]).splitlines()  # ours: a whole sentence already
        elif detail["type"] != "extra_forbidden" and not _is_echo(detail):
            yield _explain_value(detail)


def _is_echo(detail: ErrorDetails) -> bool:
    """Return whether a list is too short only for want of entries that have faults of their own."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def _name(detail: ErrorDetails) -> str:
    """Return the key's place, such as ``gates.int8_min_cosine``."""
    return ".".join(str(part) for part in detail["loc"])


def _explain_unknown(keys: Sequence[str], options: Sequence[str], sections: Sequence[str], purpose: str) -> str:
    """Return the sentence about unknown keys, with the known key that each may mean."""
    hints = []
    for key in keys:
        close = get_close_matches(key.replace("-", "_"), [*options, *sections], n=1)
        hints.append(f"{key} (did you mean {close[0]}?)" if close else key)
    return f"Keys must be options of {purpose}, got {', '.join(hints)}. Known are: {', '.join(options)}."


def _explain_value(detail: ErrorDetails) -> str:
    """Return the sentence about one wrong value."""
    context = detail.get("ctx", {})
    if detail["type"] == "enum":
        rule = "one of " + ", ".join(re.findall(r"'([^']*)'", context["expected"]))
    else:
        rule = _RULES.get(detail["type"], detail["msg"]).format(**context)
    return f"{_name(detail)} must be {rule}, got {reprlib.repr(detail['input'])}."
