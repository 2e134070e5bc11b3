"""One family of errors; a command's exit code and what a caller catches follow from the kind."""

from __future__ import annotations

import pytest

from dynbert.errors import BundleError, DynbertError, InputError, LengthConfigError, ProfileError


@pytest.mark.parametrize(
    ("kind", "exit_code", "is_value_error"),
    [
        (DynbertError, 1, False),
        (BundleError, 1, False),
        (InputError, 2, True),
        (LengthConfigError, 2, True),
        (ProfileError, 2, True),
    ],
)
def test_a_caller_s_fault_is_a_value_error_and_ends_with_2(kind, exit_code, is_value_error):
    assert issubclass(kind, DynbertError)
    assert kind.exit_code == exit_code
    assert issubclass(kind, ValueError) == is_value_error
