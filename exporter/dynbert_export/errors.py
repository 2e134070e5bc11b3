"""The errors that the exporter raises on purpose; they extend the runtime's family.

The command line tells two kinds apart by their ``exit_code``: an ``InputError`` is the caller's option, recipe or
length config (2); every other ``DynbertError`` is something that was found on the way, such as a broken checkpoint, or
one that lacks the head that was asked for (1).
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dynbert.errors import DynbertError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CalibrationError",
    "CheckpointError",
    "ExportError",
    "GateError",
    "MissingPackageError",
    "RecipeError",
    "check_packages",
    "collect_faults",
    "explain_missing_packages",
]


class ExportError(DynbertError):
    """An export cannot be done, or a gate of it failed."""


class CheckpointError(ExportError):
    """The model cannot be found, read or exported: a missing or broken file, or not a BERT that we know."""


class MissingPackageError(ExportError, ImportError):
    """A package of an extra is not installed; the message names the extra."""


class CalibrationError(ExportError):
    """The calibration file cannot be found, read or used."""


class GateError(ExportError):
    """A graph is not what it must be: it differs from the model, answers otherwise, or does not run as INT8."""


class RecipeError(InputError):
    """An export option, from a recipe or from the caller, cannot be used."""


@contextmanager
def collect_faults(faults: list[str], *, prefix: str = "") -> Iterator[None]:
    """Note an ``InputError`` of the block instead of raising it, so that all faults can be reported at once.

    Args:
        faults: Gets the message; changed in place.
        prefix: Put before the message.

    Yields:
        Nothing.
    """
    try:
        yield
    except InputError as err:
        faults.append(f"{prefix}{err}")


_PACKAGES = {
    "export": frozenset({"pydantic"}),
    "search": frozenset({"pydantic", "optuna", "sqlalchemy", "filelock", "matplotlib", "scipy", "seqeval", "pyarrow"}),
    "train": frozenset(
        {"pydantic", "torch", "transformers", "accelerate", "datasets", "matplotlib", "scipy", "seqeval", "pyarrow"}
    ),
}
"""Extra -> packages of it that its commands would miss, the first of them at once; the runtime alone has none."""

_WHOSE = {"export": "exporter", "search": "search", "train": "trainer"}
"""Extra -> what needs it, for messages."""


def check_packages(extra: str) -> None:
    """Look for an extra's packages before hours of work end at one that is missing.

    Args:
        extra: The extra.

    Raises:
        ModuleNotFoundError: If one is not installed, as importing it would; see ``explain_missing_packages``.
    """
    for name in sorted(_PACKAGES[extra]):
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def explain_missing_packages(extra: str) -> Iterator[None]:
    """Say how to get the packages of an extra where the block finds them missing.

    Args:
        extra: The extra that the block needs.

    Yields:
        Nothing.

    Raises:
        MissingPackageError: In place of the bare ``ModuleNotFoundError``.
    """
    try:
        yield
    except ModuleNotFoundError as err:
        if err.name not in _PACKAGES[extra]:
            raise
        whose = _WHOSE[extra]
        got = "the runtime alone" if err.name == "pydantic" else f"no {err.name}"
        raise MissingPackageError(
            f"The {whose}'s packages must be installed, got {got}. Run: pip install 'dynbert[{extra}]'"
        ) from err
