"""What is said of the machine, and the core that is kept free."""

from __future__ import annotations

import os

import pytest

from dynbert_bench.environment import choose_core, describe_environment, kept_off

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a core"
)


@pytest.mark.parametrize(("core", "governor"), [(1, "performance"), (0, None), (None, None)])
def test_governor_is_that_of_the_core_where_the_system_tells(tmp_path, core, governor):
    file = tmp_path / "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor"
    file.parent.mkdir(parents=True)
    file.write_text("performance\n")
    found = describe_environment(core, filesystem=tmp_path)
    assert (found.core, found.governor) == (core, governor)


def test_packages_that_are_not_installed_are_left_out():
    versions = describe_environment(None).versions
    assert {"dynbert", "onnxruntime", "numpy"} <= set(versions)
    assert all(versions.values())


@needs_affinity
def test_this_process_leaves_the_core_and_comes_back():
    before, core = os.sched_getaffinity(0), choose_core()
    assert core == max(before)
    with kept_off(core):
        assert os.sched_getaffinity(0) == (before - {core} or before)
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_nothing_changes_without_a_core():
    before = os.sched_getaffinity(0)
    with kept_off(None):
        assert os.sched_getaffinity(0) == before
