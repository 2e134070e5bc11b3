"""Packages of the extras ``eval``, ``data`` and ``report``: imported when first needed, named where missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dynbert.errors import DynbertError

__all__ = ["MissingPackageError", "import_extra"]


class MissingPackageError(DynbertError, ImportError):
    """A package of an extra is not installed; the message names the extra."""


def import_extra(module: str, *, extra: str, purpose: str) -> Any:
    """Import a module that the runtime alone does not have.

    Args:
        module: Its dotted name.
        extra: The extra of dynbert that brings its package.
        purpose: What it is needed for, to follow "to".

    Returns:
        The module.

    Raises:
        MissingPackageError: If the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as err:
        package = module.partition(".")[0]
        if err.name is None or err.name.partition(".")[0] != package:  # the package is there, but broken
            raise
        raise MissingPackageError(
            f"{package} must be installed to {purpose}, got none. Run: pip install 'dynbert[{extra}]'"
        ) from err
