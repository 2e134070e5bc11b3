"""Publishing a bundle: built in a temporary sibling of its place, then renamed into it.

Whatever goes wrong on the way, a full disk and Ctrl-C included, nothing stands at the output path that was not
there before, and the temporary folder is gone. Only a bundle is ever replaced, and only when asked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dynbert.errors import InputError
from dynbert.manifest import MANIFEST_FILE
from dynbert_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Staging", "check_output", "check_place", "stage_bundle", "stage_folder"]

_FOLDER_MODE = 0o755


@dataclass(frozen=True)
class Staging:
    """Where an export works."""

    bundle: Path
    """What becomes the bundle."""
    work: Path
    """Everything else; never published."""


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a place that a bundle cannot be written to.

    Args:
        output: Folder of the bundle.
        overwrite: Whether a bundle that is there may be replaced.

    Raises:
        InputError: If something is there that is no bundle, or a bundle without ``overwrite``.
    """
    check_place(output, what="bundle", is_ours=lambda folder: (folder / MANIFEST_FILE).is_file(), overwrite=overwrite)


def check_place(output: Path, *, what: str, is_ours: Callable[[Path], bool], overwrite: bool) -> None:
    """Refuse a place that a folder cannot be published at.

    Args:
        output: The place.
        what: What is to be published, for messages.
        is_ours: Whether a folder is such a thing, which may be replaced.
        overwrite: Whether one that is there may be.

    Raises:
        InputError: If something else is there, or such a folder without ``overwrite``.
    """
    if not os.path.lexists(output):
        return
    if output.is_symlink() or not output.is_dir():
        raise InputError(f"Output must be a folder that does not exist yet, got a file or link: {output}.")
    if not any(output.iterdir()):
        return
    if not is_ours(output):
        raise InputError(
            f"Output must be a new folder or a {what} to replace, got a folder with other files: {output}. "
            "Choose another place; dynbert only removes what it made."
        )
    if not overwrite:
        raise InputError(f"Output must not exist yet, got the {what} {output}. Pass --overwrite to replace it.")


@contextlib.contextmanager
def stage_bundle(output: Path, *, overwrite: bool) -> Iterator[Staging]:
    """Give a folder to build a bundle in; publish it when the block ends, discard it when the block fails.

    Args:
        output: Folder of the bundle; missing parents are made.
        overwrite: Whether a bundle that is there may be replaced.

    Yields:
        The folders to work in.

    Raises:
        InputError: If ``output`` cannot be written to, see ``check_output``.
        ExportError: If the disk refuses.
    """
    with stage_folder(output, check_output, overwrite=overwrite) as staging:
        yield staging


@contextlib.contextmanager
def stage_folder(output: Path, check: Callable[..., None], *, overwrite: bool) -> Iterator[Staging]:
    """Give a folder to build whatever is published in; publish it when the block ends, discard it when the block fails.

    Args:
        output: Its place; missing parents are made.
        check: Refuses a place that cannot be written to, as ``check_output`` does.
        overwrite: Whether what is there may be replaced.

    Yields:
        The folders to work in; ``bundle`` is the one that is published.

    Raises:
        InputError: If ``output`` cannot be written to.
        ExportError: If the disk refuses.
    """
    check(output, overwrite=overwrite)
    output = output.absolute()
    made = _make_parents(output.parent)
    root: Path | None = None
    try:
        with _translated_os_errors(output):
            root = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
            staging = Staging(root / "bundle", root / "work")
            staging.bundle.mkdir(mode=_FOLDER_MODE)
            staging.work.mkdir()
            yield staging
            check(output, overwrite=overwrite)  # somebody may have been faster
            _publish(staging.bundle, output, root)
            made = []
    finally:
        if root is not None:
            shutil.rmtree(root, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: somebody else uses it by now
                folder.rmdir()


def _make_parents(folder: Path) -> list[Path]:
    """Make a folder and its parents; return those that were made, innermost first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    with _translated_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _publish(bundle: Path, output: Path, root: Path) -> None:
    """Rename the finished bundle into its place, an older one out of it first."""
    replaced = root / "replaced"
    had_output = output.exists()
    if had_output:
        output.rename(replaced)
    try:
        bundle.rename(output)
    except BaseException:
        if had_output:
            replaced.rename(output)
        raise


_CUT_OFF = "requested and"
"""In what numpy says, without an error number, when a disk takes only a part of an array."""


@contextlib.contextmanager
def _translated_os_errors(place: Path) -> Iterator[None]:
    """Say what the disk refused, and that nothing was left behind."""
    try:
        yield
    except OSError as err:
        reason = err.strerror or str(err)
        if err.errno is None and _CUT_OFF in reason:
            reason = f"not enough room ({reason})"
        raise ExportError(f"{place} must be writable, got: {reason}. Nothing was written there.") from err
