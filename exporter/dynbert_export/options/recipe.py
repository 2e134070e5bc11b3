"""Recipes: options of an export in a YAML file.

Relative paths in a recipe are relative to the folder of the recipe, so that a recipe means the same wherever it is
run from. Paths from the caller are relative to the working directory, as everywhere.

YAML is read with PyYAML's safe loader, changed in three ways: a key that stands twice is refused (YAML would let the
last one win), aliases are refused (a few lines of them can stand for gigabytes), and ``1e-4`` is a number (YAML 1.1
wants ``1.0e-4`` and reads the short form as text).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from dynbert_export.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_recipe"]

_MAX_RECIPE_BYTES = 1 << 20
_PATH_KEYS = ("output", "calibration", "study")
_NAME_KEYS = ("model", "data", "eval_data", "teacher", "evaluate", "test")
"""Keys that may also name something on a hub: a path only where it is written as one, or is there."""


def load_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe; only its form is checked here, its values in ``make_config``.

    Args:
        path: A YAML file that holds a mapping.

    Returns:
        What the recipe gives. Relative paths in it have become relative to the working directory.

    Raises:
        RecipeError: If the file cannot be read, is not plain YAML, has a key twice, or holds no mapping.
    """
    try:
        if path.stat().st_size > _MAX_RECIPE_BYTES:
            raise RecipeError(f"A recipe must be at most {_MAX_RECIPE_BYTES} bytes, got more in {path}.")
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise RecipeError(f"A recipe must be a readable YAML file, got {path} ({err.strerror}).") from err
    except UnicodeDecodeError as err:
        raise RecipeError(f"A recipe must be UTF-8 text, got another encoding in {path} ({err.reason}).") from err
    try:
        values = _RecipeLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as err:  # ValueError: a date such as 2024-13-45
        raise RecipeError(f"A recipe must be plain YAML, got in {path}: {_explain_yaml(err)}") from err
    if not isinstance(values, dict):
        raise RecipeError(
            f"A recipe must be a mapping of options, got {_kind(values)} in {path}. Write for example model: folder."
        )
    return _anchor_paths(values, path.parent)


def _anchor_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values with relative paths put under the recipe's folder; a hub id is left as it is."""
    anchored = dict(values)
    for key in _PATH_KEYS:
        if isinstance(values.get(key), str):
            anchored[key] = folder / values[key]
    for key in _NAME_KEYS:
        name = values.get(key)
        if isinstance(name, str) and name and (name.startswith(".") or (folder / name).exists()):
            anchored[key] = str(folder / name)
    return anchored


class _RecipeLoader(yaml.SafeLoader):
    """PyYAML's safe loader, and stricter: see the header of this module."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML has none
            raise yaml.composer.ComposerError(None, None, f"the alias *{event.anchor}", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  (its signature)
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key_node.value!r} stands twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+0123456789.")
)


def _explain_yaml(err: Exception) -> str:
    """Return what is wrong and where, in one line."""
    if not isinstance(err, yaml.MarkedYAMLError):
        return str(err).splitlines()[0]
    where = f" (line {err.problem_mark.line + 1})" if err.problem_mark else ""
    problem = err.problem or "no YAML"
    if "could not determine a constructor" in problem:
        problem = f"{problem.split()[-1]}, which asks for an object. Only texts, numbers, lists and mappings are read"
    return f"{problem}{where}."


def _kind(value: object) -> str:
    """Return a YAML value's kind in words."""
    return "nothing" if value is None else {"list": "a list", "str": "a text"}.get(type(value).__name__, "one value")
