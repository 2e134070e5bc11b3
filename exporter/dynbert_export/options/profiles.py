"""Profiles that the caller asks for: lengths, layers or both under a name that becomes part of a file name.

The profiles ``full`` and ``anytime`` are always made and cannot be asked for. Names that differ only by case are
refused, because they are one file on the file systems of Windows and macOS.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, FULL, is_file_name
from dynbert_export.errors import collect_faults
from dynbert_export.options.layers import check_layers, layers_text, read_layers

__all__ = [
    "CONFIGURED_NAME",
    "DEFAULT_NAME",
    "MAX_NAME_LENGTH",
    "LayersOption",
    "NamedLengths",
    "add_configured",
    "check_lengths",
    "check_query_profile",
    "make_length_profiles",
    "make_profiles",
    "parse_profile",
]

CONFIGURED_NAME = "configured"
"""Name of the profile with the lengths that a checkpoint's own config has."""

DEFAULT_NAME = "custom"
"""Name of a profile that was given without one; a second one needs a name of its own."""

MAX_NAME_LENGTH = 64
"""Leaves room for ``.int8.onnx`` and the like within the manifest's 128 characters."""

_RESERVED = (FULL, ANYTIME)


_LENGTHS_KEY, _LAYERS_KEY = "length_config", "layer_config"
"""Keys of a profile that is written as a mapping."""


@dataclass(frozen=True)
class NamedLengths:
    """Lengths, layers or both under a name.

    Raises:
        InputError: On construction, when the name cannot be part of a file name or is reserved, when there are neither
            lengths nor layers, or when the layers break a rule of layer configs.
    """

    name: str
    """Letters, digits and ``._-``, starting with a letter or digit; the graph's file is ``NAME.int8.onnx``."""
    lengths: LengthConfig | None
    """Tokens kept after each layer of the model; those of layers that are left out say nothing. None drops nothing."""
    layers: tuple[int, ...] | None = None
    """Indices of the layers that run, ascending; None for all."""

    def __post_init__(self) -> None:
        if self.layers is not None:
            object.__setattr__(self, "layers", read_layers(self.layers))
        elif self.lengths is None:
            raise InputError(
                f"Profile {self.name} must have a length config, a layer config or both, got neither. Write for "
                f"example {self.name}: {{{_LENGTHS_KEY}: [0.9, 0.8, 0.7], {_LAYERS_KEY}: [0, 2]}}."
            )
        if len(self.name) > MAX_NAME_LENGTH or not is_file_name(self.name):
            raise InputError(
                f"Profile names must be plain file names of at most {MAX_NAME_LENGTH} characters, got {self.name!r}. "
                "Use letters, digits and '._-', and start with a letter or a digit."
            )
        if self.name.lower() in _RESERVED:
            raise InputError(
                f"Profile names must not be {FULL} or {ANYTIME}, got {self.name!r}. "
                "Choose another name; these two graphs are always made."
            )


@dataclass(frozen=True)
class LayersOption:
    """``[NAME=]LIST`` of layers, as the command line's ``--layer-config`` gives it, for the profile of that name."""

    text: str


@dataclass(frozen=True)
class _Given:
    """A profile as the caller gives it; None for what is not given."""

    name: object
    lengths: object = None
    layers: object = None


def parse_profile(text: str) -> NamedLengths:
    """Read the command line's ``[NAME=]LIST``, such as ``fast=315,251,242`` or ``0.9,0.8,0.7``.

    Args:
        text: A name and a list, or a list alone, which gets the name ``DEFAULT_NAME``.

    Returns:
        The profile.

    Raises:
        InputError: If the name or the list breaks a rule.
    """
    return _make_profile(_Given(*_split_name(text)))


def make_profiles(given: object) -> tuple[NamedLengths, ...]:
    """Return profiles in their order, from any form that a caller may give.

    Args:
        given: A mapping from name to length config (a ``LengthConfig``, its text form or a sequence of numbers) or to a
            mapping with ``length_config``, ``layer_config`` (a text or a sequence of indices) or both; or a sequence of
            ``NamedLengths``, ``[NAME=]LIST`` texts and ``LayersOption``.

    Returns:
        The profiles.

    Raises:
        InputError: If ``given`` has another form, or with the faults of all profiles at once.
    """
    profiles: list[NamedLengths] = []
    faults: list[str] = []
    for item in _list_given(given, faults):
        with collect_faults(faults):
            profiles.append(_make_profile(item))
    faults += _find_shared_names(profiles)
    if faults:
        raise InputError("\n".join(faults))
    return tuple(profiles)


def make_length_profiles(given: object) -> tuple[NamedLengths, ...]:
    """Return profiles that run all layers, as a training judges by.

    Args:
        given: As for ``make_profiles``.

    Returns:
        The profiles.

    Raises:
        InputError: As ``make_profiles`` does, and if a profile has a layer config.
    """
    profiles = make_profiles(given)
    faults = [
        f"Profile {profile.name} must have no {_LAYERS_KEY} in a training, got {layers_text(profile.layers)}. "
        f"A training judges the model with all of its layers; give {_LAYERS_KEY} to dynbert-export."
        for profile in profiles
        if profile.layers is not None
    ]
    if faults:
        raise InputError("\n".join(faults))
    return profiles


def add_configured(
    profiles: tuple[NamedLengths, ...], lengths: LengthConfig | None
) -> tuple[tuple[NamedLengths, ...], str | None]:
    """Add the lengths of a checkpoint's own config to the profiles that the caller asked for, which win.

    Args:
        profiles: The caller's.
        lengths: The checkpoint's; None where it has none.

    Returns:
        The profiles, one more where none has these lengths or the name ``CONFIGURED_NAME``; and what the caller should
        be told of it, None without such lengths.
    """
    if lengths is None:
        return profiles, None
    found = f"config.json has the length_config {lengths}"
    for profile in profiles:
        if profile.lengths == lengths and profile.layers is None:
            return profiles, f"{found}: it is the profile {profile.name}."
    for profile in profiles:
        if profile.name.lower() == CONFIGURED_NAME:
            return profiles, f"{found}: it is left out, because the profile {profile.name} was asked for with others."
    added = NamedLengths(CONFIGURED_NAME, lengths)
    return (*profiles, added), f"{found}: it is exported as the profile {CONFIGURED_NAME}."


def _list_given(given: object, faults: list[str]) -> list[_Given]:
    """Return what ``given`` holds, layers of the command line with the lengths of their name."""
    if isinstance(given, Mapping):
        found = []
        for name, value in given.items():
            with collect_faults(faults, prefix=f"Profile {name}: "):
                found.append(_read_mapping(name, value) if isinstance(value, Mapping) else _Given(name, value))
        return found
    kinds = (NamedLengths, LayersOption, str)
    if not isinstance(given, (list, tuple)) or not all(isinstance(item, kinds) for item in given):
        raise InputError(
            f"Profiles must be a mapping from name to length config, got {type(given).__name__}. "
            "Write for example profiles: {fast: [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]}."
        )
    profiles: list[_Given] = []
    for item in given:
        if isinstance(item, LayersOption):
            _add_layers(profiles, *_split_name(item.text))
        elif isinstance(item, NamedLengths):
            profiles.append(_Given(item.name, item.lengths, item.layers))
        else:
            profiles.append(_Given(*_split_name(item)))
    return profiles


def _read_mapping(name: object, value: Mapping[object, object]) -> _Given:
    """Return a profile that is written as a mapping."""
    unknown = [reprlib.repr(key) for key in value if key not in {_LENGTHS_KEY, _LAYERS_KEY}]
    if unknown:
        raise InputError(f"Keys must be {_LENGTHS_KEY} or {_LAYERS_KEY}, got {', '.join(unknown)}.")
    return _Given(name, value.get(_LENGTHS_KEY), value.get(_LAYERS_KEY))


def _add_layers(profiles: list[_Given], name: str, layers: str) -> None:
    """Give layers to the profile of a name, or make one; a profile that has some already gets a twin, a fault."""
    for index, profile in enumerate(profiles):
        if profile.name == name and profile.layers is None:
            profiles[index] = replace(profile, layers=layers)
            return
    profiles.append(_Given(name, layers=layers))


def _split_name(text: str) -> tuple[str, str]:
    """Return name and list of ``[NAME=]LIST``."""
    name, equals, items = text.rpartition("=")
    return name.strip() if equals else DEFAULT_NAME, items


def _make_profile(given: _Given) -> NamedLengths:
    """Return a profile; whatever is wrong with lengths and layers is said with its name, all at once."""
    name = given.name
    if not isinstance(name, str):  # YAML reads on, yes and 1 as a truth value and a number
        raise InputError(f"Profile names must be text, got {name!r}. Put the name in quotes.")
    lengths, layers = None, None
    faults: list[str] = []
    with collect_faults(faults, prefix=f"Profile {name}: "):
        # What is none of the accepted forms is refused there.
        lengths = None if given.lengths is None else LengthConfig.of(given.lengths)  # type: ignore[arg-type]
    kind = LengthConfigError if faults else InputError
    with collect_faults(faults, prefix=f"Profile {name}: "):
        layers = None if given.layers is None else read_layers(given.layers)
    if faults:
        raise kind("\n".join(faults))
    return NamedLengths(name, lengths, layers)


def _find_shared_names(profiles: Iterable[NamedLengths]) -> list[str]:
    """Return a fault for each name that an earlier profile has, in any case."""
    seen: dict[str, str] = {}
    faults = []
    for profile in profiles:
        key = profile.name.lower()
        if key in seen:
            faults.append(
                f"Profile names must differ, and not only in case, got {seen[key]!r} and {profile.name!r}. "
                "Name each: --length-config NAME=LIST, --layer-config NAME=LIST."
            )
        seen.setdefault(key, profile.name)
    return faults


def check_lengths(profiles: Iterable[NamedLengths], *, num_layers: int, max_length: int) -> None:
    """Hold profiles to the model that they are for.

    Args:
        profiles: Length and layer configs, by name.
        num_layers: Hidden layers of the model.
        max_length: Longest input in tokens.

    Raises:
        InputError: If length configs have a wrong count of entries or exceed the maximum length, or layer configs name
            layers that the model does not have; all at once.
    """
    faults: list[str] = []
    for profile in profiles:
        prefix = f"Profile {profile.name}: "
        if profile.lengths is not None:
            with collect_faults(faults, prefix=prefix):
                profile.lengths.check_layers(num_layers)
            with collect_faults(faults, prefix=prefix):
                profile.lengths.check_max_length(max_length)
        if profile.layers is not None:
            with collect_faults(faults, prefix=prefix):
                check_layers(profile.layers, num_layers)
    if faults:
        raise InputError("\n".join(faults))


def check_query_profile(name: str | None, profiles: Iterable[NamedLengths]) -> None:
    """Check that the profile which embeds queries will be there.

    Args:
        name: Its name; None where there is none.
        profiles: Those of the bundle beside ``full``.

    Raises:
        InputError: If it is none of them.
    """
    known = [FULL, *(profile.name for profile in profiles)]
    if name is not None and name not in known:
        raise InputError(f"query_profile must be one of {', '.join(known)}, got {name!r}.")
