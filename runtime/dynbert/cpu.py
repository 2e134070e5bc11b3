"""What this machine offers to a graph: its INT8 instructions, and how many cores this process may use.

The instructions are read from the features that the operating system reports, not from archspec's named
microarchitecture: a processor that lacks one feature of its family is named after a generic ancestor there, whose
feature list has no VNNI although the processor does (seen on a virtualised Zen 4).
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dynbert.manifest import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["cpu_name", "int8_target", "usable_cores"]

_ARM64_MACHINES = frozenset({"aarch64", "arm64"})
_FEATURES_OF_TARGETS = (
    (Target.AMX, frozenset({"amx_int8"})),
    (Target.VNNI, frozenset({"avx512_vnni", "avx_vnni"})),
    (Target.AVX2, frozenset({"avx2"})),
)
"""Best first; any one of the features is enough."""


@lru_cache(maxsize=1)
def int8_target() -> Target | None:
    """Return the best INT8 instruction set of this machine.

    Returns:
        The target whose graphs run best here, or None where the processor has none of them.
    """
    from archspec.cpu import detect  # 40 ms, and not needed to import dynbert

    if platform.machine().lower() in _ARM64_MACHINES:
        return Target.ARM64
    return _target_of_features(detect.detected_info().features)


def _target_of_features(features: Iterable[str]) -> Target | None:
    available = frozenset(features)
    return next((target for target, any_of in _FEATURES_OF_TARGETS if any_of & available), None)


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """Return the processor's name for reports, e.g. ``AMD EPYC 9654 96-Core Processor``."""
    from archspec import cpu

    return cpu.brand_string() or platform.processor() or platform.machine() or "unknown"


def usable_cores(filesystem: Path = Path("/")) -> int:
    """Return how many cores this process may keep busy.

    That is the least of: the cores of its CPU affinity (the two hardware threads of one core count once, because
    matrix products gain nothing from the second), and the CPU quota of its control group and of every group above
    it. A fractional quota is rounded down: a pool that outruns its quota is stopped for the rest of each period,
    which costs more latency than the fraction is worth.

    Args:
        filesystem: Where ``proc`` and ``sys`` are; tests put another tree here.

    Returns:
        At least 1.
    """
    cores = _affinity_cores(filesystem)
    quotas = [quota for folder in _cgroup_folders(filesystem) if (quota := _cpu_quota(folder)) is not None]
    return max(1, min([cores, *(int(quota) for quota in quotas)]))


def _affinity_cores(filesystem: Path) -> int:
    if not hasattr(os, "sched_getaffinity"):  # macOS, Windows
        return os.cpu_count() or 1
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_read(filesystem / topology.format(cpu)) or str(cpu) for cpu in os.sched_getaffinity(0)}
    return len(cores)


def _cgroup_folders(filesystem: Path) -> Iterator[Path]:
    """Yield the folders of this process's control group and its parents, of version 2 and of version 1's cpu tree."""
    mount = filesystem / "sys/fs/cgroup"
    for line in (_read(filesystem / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / "cpu" if controllers else mount
        group = root / path.lstrip("/")
        # Inside a container the path is often the host's, and only the mount's root exists: walk up to it.
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _cpu_quota(folder: Path) -> float | None:
    """Return the cores that a control group allows; None where it sets no limit."""
    version_2 = _read(folder / "cpu.max")
    if version_2 is not None:
        quota, period = version_2.split()
    else:
        quota = _read(folder / "cpu.cfs_quota_us") or "-1"
        period = _read(folder / "cpu.cfs_period_us") or "100000"
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
