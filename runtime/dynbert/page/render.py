"""From the page's contents to one HTML file: templates, the rule of what the page may load, and writing it whole.

Everything from a bundle or a user is text to the templates, escaped by Jinja. The page has no script and loads nothing,
and a content security policy in it says so to the browser: even what might slip through an escape would not run.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynbert.errors import DynbertError, InputError
from dynbert.packages import import_extra

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_output", "open_templates", "render_page", "write_page"]

_GENERATOR = "dynbert report"
"""What the page says it was made by; a file that says so may be overwritten."""
_HEAD_BYTES = 1024
_FILE_MODE = 0o644


def check_output(output: Path, *, overwrite: bool, bundle: Path) -> None:
    """Refuse a place that the page cannot be written to.

    Args:
        output: The file.
        overwrite: Whether a report that is there may be replaced.
        bundle: The bundle's folder, which has no room for other files.

    Raises:
        InputError: If something is there that is no report, or a report without ``overwrite``, or the place is inside
            the bundle.
    """
    if output.absolute().resolve().is_relative_to(bundle.absolute().resolve()):
        raise InputError(
            f"Output must lie outside the bundle, got {output}. A bundle has no other files than those of its manifest."
        )
    if not os.path.lexists(output):
        return
    if output.is_symlink() or not output.is_file():
        raise InputError(f"Output must be a file that does not exist yet, got a folder or link: {output}.")
    with output.open("rb") as file:
        is_report = f'content="{_GENERATOR}"'.encode() in file.read(_HEAD_BYTES)
    if not is_report:
        raise InputError(
            f"Output must be a new file or a report to replace, got another file: {output}. "
            "Choose another place; dynbert only replaces what it made."
        )
    if not overwrite:
        raise InputError(f"Output must not exist yet, got the report {output}. Pass --overwrite to replace it.")


def open_templates() -> Any:
    """Return the templates' environment.

    Returns:
        A ``jinja2.Environment`` that escapes everything.

    Raises:
        MissingPackageError: If Jinja is not installed.
    """
    jinja2 = import_extra("jinja2", extra="report", purpose="make a report")
    return jinja2.Environment(
        loader=jinja2.PackageLoader("dynbert.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_page(environment: Any, contents: Mapping[str, Any]) -> str:
    """Fill the templates.

    Args:
        environment: As ``open_templates`` returns it.
        contents: The page's contents, by the names that the templates use.

    Returns:
        The HTML.
    """
    style = environment.get_template("style.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = environment.get_template("report.html")
    return str(template.render(contents, style=style, style_digest=f"sha256-{digest}", generator=_GENERATOR))


def write_page(output: Path, page: str) -> None:
    """Write the page, whole or not at all.

    Args:
        output: The file; missing folders are made.
        page: The HTML.

    Raises:
        DynbertError: If the disk refuses.
    """
    partial: Path | None = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent)
        os.close(handle)
        partial = Path(name)
        partial.write_text(page, encoding="utf-8")
        partial.chmod(_FILE_MODE)
        partial.replace(output)
        partial = None
    except OSError as err:
        raise DynbertError(
            f"{output} must be writable, got: {err.strerror or err}. Nothing was written there."
        ) from err
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
