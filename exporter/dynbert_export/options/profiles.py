"""Profiles that the caller asks for: a length config under a name that becomes part of a file name.

The profiles ``full`` and ``anytime`` are always made and cannot be asked for. Names that differ only by case are
refused, because they are one file on the file systems of Windows and macOS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, FULL, is_file_name
from dynbert_export.errors import collect_faults

__all__ = [
    "CONFIGURED_NAME",
    "DEFAULT_NAME",
    "MAX_NAME_LENGTH",
    "NamedLengths",
    "add_configured",
    "check_lengths",
    "check_query_profile",
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


@dataclass(frozen=True)
class NamedLengths:
    """One length config under a name.

    Raises:
        InputError: On construction, when the name cannot be part of a file name or is reserved.
    """

    name: str
    """Letters, digits and ``._-``, starting with a letter or digit; the graph's file is ``NAME.int8.onnx``."""
    lengths: LengthConfig
    """Tokens kept after each layer."""

    def __post_init__(self) -> None:
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


def parse_profile(text: str) -> NamedLengths:
    """Read the command line's ``[NAME=]LIST``, such as ``fast=315,251,242`` or ``0.9,0.8,0.7``.

    Args:
        text: A name and a list, or a list alone, which gets the name ``DEFAULT_NAME``.

    Returns:
        The profile.

    Raises:
        InputError: If the name or the list breaks a rule.
    """
    name, equals, lengths = text.rpartition("=")
    return _make_profile(name.strip() if equals else DEFAULT_NAME, lengths)


def make_profiles(given: object) -> tuple[NamedLengths, ...]:
    """Return profiles in their order, from any form that a caller may give.

    Args:
        given: A mapping from name to length config (a ``LengthConfig``, its text form or a sequence of numbers), or
            a sequence of ``NamedLengths`` and ``[NAME=]LIST`` texts.

    Returns:
        The profiles.

    Raises:
        InputError: If ``given`` has another form, or with the faults of all profiles at once.
    """
    profiles: list[NamedLengths] = []
    faults: list[str] = []
    for item in _items(given):
        with collect_faults(faults):
            if isinstance(item, tuple):
                profiles.append(_make_profile(*item))
            else:
                profiles.append(item if isinstance(item, NamedLengths) else parse_profile(item))
    faults += _find_shared_names(profiles)
    if faults:
        raise InputError("\n".join(faults))
    return tuple(profiles)


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
        if profile.lengths == lengths:
            return profiles, f"{found}: it is the profile {profile.name}."
    for profile in profiles:
        if profile.name.lower() == CONFIGURED_NAME:
            return profiles, f"{found}: it is left out, because the profile {profile.name} was asked for with others."
    added = NamedLengths(CONFIGURED_NAME, lengths)
    return (*profiles, added), f"{found}: it is exported as the profile {CONFIGURED_NAME}."


def _items(given: object) -> Iterable[NamedLengths | str | tuple[object, object]]:
    """Return what ``given`` holds: (name, lengths) pairs of a mapping, or the items of a sequence."""
    if isinstance(given, Mapping):
        return list(given.items())
    if not isinstance(given, (list, tuple)) or not all(isinstance(item, (NamedLengths, str)) for item in given):
        raise InputError(
            f"Profiles must be a mapping from name to length config, got {type(given).__name__}. "
            "Write for example profiles: {fast: [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]}."
        )
    return given


def _make_profile(name: object, lengths: object) -> NamedLengths:
    """Return a profile; whatever is wrong with the lengths is said with the profile's name."""
    if not isinstance(name, str):  # YAML reads on, yes and 1 as a truth value and a number
        raise InputError(f"Profile names must be text, got {name!r}. Put the name in quotes.")
    try:
        config = LengthConfig.of(lengths)  # type: ignore[arg-type]  # anything but the accepted forms is refused there
    except LengthConfigError as err:
        raise LengthConfigError(f"Profile {name}: {err}") from err
    return NamedLengths(name, config)


def _find_shared_names(profiles: Iterable[NamedLengths]) -> list[str]:
    """Return a fault for each name that an earlier profile has, in any case."""
    seen: dict[str, str] = {}
    faults = []
    for profile in profiles:
        key = profile.name.lower()
        if key in seen:
            faults.append(
                f"Profile names must differ, and not only in case, got {seen[key]!r} and {profile.name!r}. "
                "Name each: --length-config NAME=LIST."
            )
        seen.setdefault(key, profile.name)
    return faults


def check_lengths(profiles: Iterable[NamedLengths], *, num_layers: int, max_length: int) -> None:
    """Hold length configs to the model that they are for.

    Args:
        profiles: The length configs, by name.
        num_layers: Hidden layers of the model.
        max_length: Longest input in tokens.

    Raises:
        InputError: If length configs have a wrong count of entries or exceed the maximum length; all at once.
    """
    faults: list[str] = []
    for profile in profiles:
        for check, limit in (
            (profile.lengths.check_layers, num_layers),
            (profile.lengths.check_max_length, max_length),
        ):
            with collect_faults(faults, prefix=f"Profile {profile.name}: "):
                check(limit)
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
