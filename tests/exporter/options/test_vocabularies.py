"""The closed vocabularies of the options, and the targets that an option gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dynbert.manifest import Precision, Target, Task
from dynbert_export.options.vocabularies import PrecisionOption, TargetOption, TaskOption, make_targets


def test_options_cover_the_vocabulary_of_the_manifest():
    assert {option.value for option in TaskOption} == {"auto", *(task.value for task in Task)}
    assert {option.value for option in PrecisionOption} == {"both", *(precision.value for precision in Precision)}
    assert {option.value for option in TargetOption} == {"auto", *(target.value for target in Target)}


@pytest.mark.parametrize(
    ("given", "targets"),
    [
        ("avx2", (TargetOption.AVX2,)),
        (["vnni", "avx2"], (TargetOption.VNNI, TargetOption.AVX2)),
        (("avx2", "vnni", "avx2"), (TargetOption.AVX2, TargetOption.VNNI)),
        ([TargetOption.AUTO], (TargetOption.AUTO,)),
    ],
)
def test_make_targets_takes_a_name_or_several(given, targets):
    assert make_targets(given) == targets


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sse", "target must be one of auto, vnni, amx, avx2, arm64, got 'sse'."),
        ([], "target must be one of auto, vnni, amx, avx2, arm64, or a list of them, got []."),
        (None, "target must be one of auto, vnni, amx, avx2, arm64, or a list of them, got None."),
        (["vnni", "sse", 3], "target must be one of auto, vnni, amx, avx2, arm64, got 'sse', 3."),
    ],
)
def test_make_targets_refuses_what_is_no_target(given, message):
    with pytest.raises(ValueError, match="target must be") as caught:
        make_targets(given)
    assert str(caught.value) == message


def test_vocabularies_are_read_without_pydantic():
    code = (
        "import sys, dynbert_export.options.vocabularies; sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
