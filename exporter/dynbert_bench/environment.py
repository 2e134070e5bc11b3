"""Where a run takes place, and the one core that competitors are bound to."""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dynbert.cpu import cpu_name, int8_target, usable_cores
from dynbert_bench.results import Environment
from dynbert_bench.store import code_digest, package_version

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["choose_core", "describe_environment", "kept_off"]

_GOVERNOR = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor"
_FEATURES = ("avx2", "fma", "avx512", "avx_vnni", "amx", "neon", "asimd", "sve", "i8mm")
"""How the names of vector and matrix instructions begin."""
_PACKAGES = (
    "dynbert",
    "onnxruntime",
    "torch",
    "transformers",
    "optimum",
    "optimum-onnx",
    "neural-compressor",
    "openvino",
    "nncf",
    "onnx",
    "numpy",
)


def choose_core() -> int | None:
    """Return the core to measure on: the last of those that this process may use; the first has most interrupts.

    Returns:
        Its number; None where processes cannot be bound to a core.
    """
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None


@contextlib.contextmanager
def kept_off(core: int | None) -> Iterator[None]:
    """Keep this process off a core, where it has another.

    Args:
        core: The core that competitors are measured on; None for nothing to do.

    Yields:
        Nothing.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - {core} or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe_environment(core: int | None, *, filesystem: Path = Path("/")) -> Environment:
    """Describe this machine and what is installed.

    Args:
        core: The core that competitors are measured on.
        filesystem: Where ``sys`` is; tests put another tree here.

    Returns:
        The description.
    """
    target = int8_target()
    versions = {name: found for name in _PACKAGES if (found := package_version(name)) is not None}
    return Environment(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=cpu_name(),
        target=target.value if target else None,
        features=_vector_features(),
        cores=usable_cores(),
        core=core,
        threads=1,
        governor=_read_governor(filesystem, core or 0),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        load_average=os.getloadavg() if hasattr(os, "getloadavg") else (),
        versions=versions,
        code=code_digest(),
    )


def _vector_features() -> tuple[str, ...]:
    from archspec.cpu import detect

    return tuple(sorted(name for name in detect.detected_info().features if name.startswith(_FEATURES)))


def _read_governor(filesystem: Path, core: int) -> str | None:
    """Return the frequency governor of a core; None where the system hides it, as virtual machines do."""
    try:
        return (filesystem / _GOVERNOR.format(core)).read_text(encoding="ascii").strip()
    except OSError:
        return None
