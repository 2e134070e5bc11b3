"""The files that a search leaves: recipe, numbers, picture; all of them there, or none new."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dynbert.errors import InputError
from dynbert_export.searching.disk import explain_disk
from dynbert_export.searching.plot import plot_search
from dynbert_export.searching.recipe import write_recipe

if TYPE_CHECKING:
    from dynbert_export.options.search import SearchConfig
    from dynbert_export.searching.results import SearchReport

__all__ = ["check_outputs", "list_outputs", "write_outputs"]


def list_outputs(recipe: Path) -> tuple[Path, Path, Path]:
    """Return the files of a search.

    Args:
        recipe: The recipe.

    Returns:
        The recipe, the numbers, the picture.
    """
    return recipe, recipe.with_suffix(".json"), recipe.with_suffix(".png")


def check_outputs(recipe: Path, *, overwrite: bool) -> None:
    """Refuse places that cannot be written to, before hours of work.

    Args:
        recipe: The recipe.
        overwrite: Whether files that are there may be replaced.

    Raises:
        InputError: If one is there.
    """
    there = [path for path in list_outputs(recipe) if path.exists()]
    if there and not overwrite:
        raise InputError(f"Output must not exist yet, got {there[0]}. Pass --overwrite to replace it.")
    folders = [path for path in there if not path.is_file()]
    if folders:
        raise InputError(f"Output must be a file, got a folder: {folders[0]}.")


def write_outputs(report: SearchReport, config: SearchConfig, calibration: Path) -> None:
    """Write the files.

    Args:
        report: What was found.
        config: The options of the search.
        calibration: Texts that the working bundle was calibrated on.

    Raises:
        ExportError: If the disk refuses.
    """
    places = list_outputs(config.output)
    with explain_disk(config.output):
        config.output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{config.output.name}.", dir=config.output.parent) as folder:
            recipe, numbers, picture = (Path(folder) / place.name for place in places)
            recipe.write_text(write_recipe(report, config, calibration), encoding="utf-8")
            text = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
            numbers.write_text(text + "\n", encoding="utf-8")
            plot_search(report, picture)
            for made, place in zip((numbers, picture, recipe), (places[1], places[2], places[0]), strict=True):
                made.replace(place)
