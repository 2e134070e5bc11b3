"""The exporter's errors: what a command ends with, and faults that are reported together."""

from __future__ import annotations

import pytest

from dynbert.errors import InputError
from dynbert_export import errors


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("ExportError", 1),
        ("CheckpointError", 1),
        ("MissingPackageError", 1),
        ("CalibrationError", 1),
        ("GateError", 1),
        ("RecipeError", 2),
    ],
)
def test_every_error_knows_its_exit_code(name, exit_code):
    assert getattr(errors, name).exit_code == exit_code


def test_every_error_is_listed_above():
    assert len([name for name in errors.__all__ if name.endswith("Error")]) == 6


def test_collect_faults_notes_wrong_input_and_nothing_else():
    faults: list[str] = []
    with errors.collect_faults(faults, prefix="a: "):
        raise InputError("x must be y.")
    with errors.collect_faults(faults):
        raise errors.RecipeError("z must be y.")
    assert faults == ["a: x must be y.", "z must be y."]
    with pytest.raises(errors.GateError, match="a gate"), errors.collect_faults(faults):
        raise errors.GateError("a gate")


def test_packages_are_looked_for_without_importing_them(monkeypatch):
    errors.check_packages("train")
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "datasets" else name)
    with (
        pytest.raises(errors.MissingPackageError, match=r"got no datasets\. Run: pip install 'dynbert\[train\]'"),
        errors.explain_missing_packages("train"),
    ):
        errors.check_packages("train")
