"""The parent's side of a measuring process: start it, ask it for bursts, end it."""

from __future__ import annotations

import select
import subprocess
import sys
from typing import TYPE_CHECKING, TypeVar

import msgspec

from dynbert_bench.protocol import Burst, BurstRequest, Ready
from dynbert_bench.store import WORKER_MODULE, child_environment, last_lines
from dynbert_export.errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from dynbert_bench.protocol import MeasureSpec

__all__ = ["Worker", "WorkerError"]

_LOAD_SECONDS = 600.0
_ANSWER_SECONDS = 300.0
_END_SECONDS = 10.0

_Message = TypeVar("_Message", Ready, Burst)


class WorkerError(ExportError):
    """A measuring process ended, or said nothing for too long."""


class Worker:
    """A process that has loaded one competitor. A context manager: the process ends with the block.

    Args:
        spec: What it loads.
        files: Path without suffix for its spec and its log.

    Raises:
        WorkerError: If it does not load.
    """

    def __init__(self, spec: MeasureSpec, files: Path) -> None:
        self._log = files.with_name(f"{files.name}.log")
        spec_file = files.with_name(f"{files.name}.spec.json")
        spec_file.write_bytes(msgspec.json.encode(spec))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- our own module
                [sys.executable, "-m", WORKER_MODULE, "measure", str(spec_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=child_environment(threads=1),
                bufsize=0,  # nothing is left in a buffer that close would fail to send to a process that has ended
            )
        try:
            self.ready = self._read(Ready, _LOAD_SECONDS)
        except BaseException:
            self.close()
            raise

    def burst(self, seconds: float) -> Burst:
        """Let it run for about so long.

        Args:
            seconds: At least three runs are done, however long they take.

        Returns:
            The times.

        Raises:
            WorkerError: If it ends or hangs.
        """
        stream = self._process.stdin
        try:
            if stream is not None:
                stream.write(msgspec.json.encode(BurstRequest(seconds=seconds)) + b"\n")
        except BrokenPipeError as err:
            raise WorkerError(self._describe_end()) from err
        return self._read(Burst, seconds + _ANSWER_SECONDS)

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, message: type[_Message], seconds: float) -> _Message:
        """Return the next message. A child writes whole lines, so a readable pipe has one, or is at its end."""
        stream = self._process.stdout
        if stream is None or not select.select([stream], [], [], seconds)[0]:
            raise WorkerError(f"A candidate must answer within {seconds:.0f} s, got no answer. Its log: {self._log}")
        line = stream.readline()
        if not line:
            raise WorkerError(self._describe_end())
        return msgspec.json.decode(line, type=message)

    def _describe_end(self) -> str:
        code = self._process.wait()
        return f"A candidate must run to its end, got exit code {code}: {last_lines(self._log)} Its log: {self._log}"
