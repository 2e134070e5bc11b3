"""The errors that dynbert raises on purpose.

One family, so that a caller can catch ``DynbertError`` and nothing else. Messages follow one template,
"X must be RULE, got VALUE. REMEDY". Faults of the caller's input are ``ValueError`` too, so that code which
knows nothing of this module still catches what it expects.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["BundleError", "DynbertError", "InputError", "LengthConfigError", "ProfileError"]


class DynbertError(Exception):
    """Base of every error that dynbert raises on purpose."""

    exit_code: ClassVar[int] = 1
    """What a command ends with: here, that something was found not to work."""


class InputError(DynbertError, ValueError):
    """What the caller passed cannot be used: a wrong value, shape, dtype or option."""

    exit_code: ClassVar[int] = 2
    """As click's own for a wrong option."""


class LengthConfigError(InputError):
    """A length config breaks a rule (count, order, range, kind of number)."""


class ProfileError(InputError):
    """The bundle has no graph for what was asked."""


class BundleError(DynbertError):
    """A bundle breaks its file contract: a missing, changed or foreign file, or an unknown schema."""
