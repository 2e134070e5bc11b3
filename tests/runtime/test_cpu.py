"""The machine's INT8 instructions, and the cores that a container leaves to a process."""

from __future__ import annotations

import os

import pytest

from dynbert import cpu
from dynbert.manifest import Target


@pytest.mark.parametrize(
    ("features", "target"),
    [
        ({"avx2", "avx512_vnni", "amx_int8"}, Target.AMX),
        ({"avx2", "avx512f", "avx512_vnni"}, Target.VNNI),
        ({"avx2", "avx_vnni"}, Target.VNNI),
        ({"avx2", "avx512f"}, Target.AVX2),
        ({"sse4_2", "avx"}, None),
        (set(), None),
    ],
)
def test_target_of_features_is_the_best_one(features, target):
    assert cpu._target_of_features(features) is target


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "ARM64"])
def test_int8_target_is_arm64_when_machine_is(monkeypatch, machine):
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    assert cpu.int8_target.__wrapped__() is Target.ARM64


def test_int8_target_agrees_with_the_flags_of_the_kernel():
    flags = set()
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110 - a plain look, independent of the code under test
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            flags = next((set(line.split()) for line in stream if line.startswith("flags")), set())
    if not flags:
        pytest.skip("no x86 flags in /proc/cpuinfo here")
    has_vnni = bool(flags & {"avx512_vnni", "avx_vnni"})
    assert (cpu.int8_target() in {Target.VNNI, Target.AMX}) == has_vnni


def test_cpu_name_is_not_empty():
    assert cpu.cpu_name().strip()


def filesystem(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "sys/fs/cgroup/cpu"
V2 = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "250000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "9900000 100000\n"}, 8),
        # a limit of the group's parent holds too
        (
            {
                "proc/self/cgroup": "0::/outer/inner\n",
                f"{V2}/outer/inner/cpu.max": "max 100000\n",
                f"{V2}/outer/cpu.max": "200000 100000\n",
            },
            2,
        ),
        # the path of a container's host is not there: the mount's root is
        ({"proc/self/cgroup": "0::/docker/abc\n", f"{V2}/cpu.max": "400000 100000\n"}, 4),
        # version 1
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n2:cpuset:/docker/abc\n0::/\n",
                f"{V1}/cpu.cfs_quota_us": "500000\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                f"{V1}/cpu.cfs_quota_us": "-1\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_usable_cores_is_the_least_of_affinity_and_quotas(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cpu.usable_cores(filesystem(tmp_path, files)) == cores


def test_usable_cores_counts_the_threads_of_a_core_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    topology = {
        f"sys/devices/system/cpu/cpu{index}/topology/thread_siblings_list": f"{index % 2},{index % 2 + 2}\n"
        for index in range(4)
    }
    assert cpu.usable_cores(filesystem(tmp_path, topology)) == 2


def test_usable_cores_counts_all_when_there_is_no_affinity(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cpu.usable_cores(tmp_path) == 6


def test_usable_cores_is_within_the_machine():
    assert os.cpu_count() >= cpu.usable_cores() >= 1
