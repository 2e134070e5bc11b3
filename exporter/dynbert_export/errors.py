"""The errors that the exporter raises on purpose; they extend the runtime's family.

The command line tells two kinds apart by their ``exit_code``: an ``InputError`` is the caller's option, recipe or
length config (2); every other ``DynbertError`` is something that was found on the way, such as a broken checkpoint, or
one that lacks the head that was asked for (1).
"""

from __future__ import annotations

from contextlib import contextmanager
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
    "collect_faults",
    "explain_missing_export_extra",
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


_ONLY_IN_EXPORT = "pydantic"
"""The first package of the extra that an export imports; the runtime alone does not have it."""


@contextmanager
def explain_missing_export_extra() -> Iterator[None]:
    """Say how to get the exporter's packages where the block finds them missing.

    Yields:
        Nothing.

    Raises:
        MissingPackageError: In place of the bare ``ModuleNotFoundError``.
    """
    try:
        yield
    except ModuleNotFoundError as err:
        if err.name != _ONLY_IN_EXPORT:
            raise
        raise MissingPackageError(
            "The exporter's packages must be installed, got the runtime alone. Run: pip install 'dynbert[export]'"
        ) from err
