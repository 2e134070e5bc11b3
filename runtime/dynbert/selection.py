"""Which graph of a bundle answers a request: pure functions of the manifest, the request and the machine.

A request names a profile or a length config. Other ways to ask (a time budget, a least quality) belong here too: they
come down to choosing a profile, then a graph of it. A call resolves its request once, into a ``BoundRequest``, and all
its batches run by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.errors import InputError, ProfileError
from dynbert.inputs import add_lengths, check_inputs
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, FULL, Precision, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from dynbert.manifest import GraphEntry, Manifest, ModelInfo

__all__ = [
    "BoundRequest",
    "GraphRequest",
    "bind_request",
    "explain_selection",
    "is_exact_on",
    "make_request",
    "parse_precision",
    "profile_names",
    "select_graph",
    "select_graphs",
]

_PREFERENCES: dict[Target | None, tuple[Target | None, ...]] = {
    Target.AMX: (Target.AMX, Target.VNNI, Target.ARM64, Target.AVX2, None),
    Target.VNNI: (Target.VNNI, Target.AMX, Target.ARM64, Target.AVX2, None),
    Target.ARM64: (Target.ARM64, Target.VNNI, Target.AMX, Target.AVX2, None),
    Target.AVX2: (Target.AVX2, None),
    None: (None, Target.AVX2),
}
"""For each machine the targets whose graphs it computes exactly, best first; None stands for fp32.

Graphs for VNNI, AMX and arm64 use the full range of u8 times s8, whose pair sums x86 without VNNI keeps in 16 bits:
there they may saturate. Graphs for AVX2 use a reduced range and are exact everywhere. A machine without INT8
instructions emulates them, which takes longer than fp32 does.
"""


@dataclass(frozen=True)
class GraphRequest:
    """What a caller asks for: a profile's name, or a length config for the anytime graph."""

    profile: str = FULL
    length_config: LengthConfig | None = None
    """Set for the anytime graph only; has one entry a layer, within the model's maximum length."""


@dataclass(frozen=True)
class BoundRequest:
    """A request bound to the graph that answers it: all that a run needs to know beside its rows."""

    model: ModelInfo
    graph: GraphEntry
    length_config: LengthConfig | None
    """Tokens that the graph keeps after each layer; None where it drops nothing."""

    @property
    def may_pad(self) -> bool:
        """Whether rows of unequal length may run together.

        Not under fractions of the input's length: a padded row would keep more tokens than it does alone.
        """
        return self.length_config is None or not self.length_config.is_fractional

    def feed(self, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.int64]]:
        """Return what the graph is fed for some rows.

        Args:
            inputs: As for ``check_inputs``.

        Returns:
            The checked inputs, and for an anytime graph the lengths for rows of that many tokens.

        Raises:
            InputError: If the inputs break a rule.
        """
        feed = check_inputs(inputs, self.model)
        lengths = self.length_config if self.graph.profile == ANYTIME else None
        return add_lengths(feed, lengths, always_keep_cls_token=self.model.always_keep_cls_token)


def make_request(
    manifest: Manifest,
    *,
    profile: str | None = None,
    length_config: LengthConfig | str | Iterable[int | float] | None = None,
) -> GraphRequest:
    """Check what the caller asked for against the bundle.

    Args:
        manifest: The bundle's.
        profile: Name of a profile; None for ``full``.
        length_config: One number a layer, for the anytime graph; None for a profile.

    Returns:
        A request that names a profile of the manifest.

    Raises:
        ProfileError: If the bundle has no such profile, or no anytime graph.
        LengthConfigError: If the length config does not fit the model.
        InputError: If both are given.
    """
    if profile is not None and length_config is not None:
        raise InputError(f"A call must give a profile or a length config, got both ({profile!r} and a length config).")
    if length_config is None:
        name = FULL if profile is None else profile
        names = profile_names(manifest)
        if name not in names:
            hint = f" Pass length_config= to run the {ANYTIME} graph." if name == ANYTIME else ""
            raise ProfileError(f"profile must be one of {', '.join(names)}, got {name!r}.{hint}")
        return GraphRequest(name)
    if not has_anytime_graph(manifest):
        raise ProfileError(
            f"A bundle must have an {ANYTIME} graph to take a length config, got one without. "
            f"Use one of its profiles: {', '.join(profile_names(manifest))}."
        )
    config = LengthConfig.of(length_config)
    config.check_layers(manifest.model.num_layers)
    config.check_max_length(manifest.model.max_length)
    return GraphRequest(ANYTIME, config)


def profile_names(manifest: Manifest) -> tuple[str, ...]:
    """Return the profiles that can be asked for by name: those with a graph, without the anytime one."""
    with_graphs = {graph.profile for graph in manifest.graphs}
    return tuple(entry.name for entry in manifest.profiles if entry.name in with_graphs and entry.name != ANYTIME)


def has_anytime_graph(manifest: Manifest) -> bool:
    """Return whether the bundle takes a length config at run time."""
    return any(graph.profile == ANYTIME for graph in manifest.graphs)


def parse_precision(precision: Precision | str | None) -> Precision | None:
    """Return ``precision`` as a member of the vocabulary.

    Args:
        precision: A member, its value (``"int8"``, ``"fp32"``), or None for the default.

    Returns:
        The member, or None.

    Raises:
        InputError: If it is none of these.
    """
    if precision is None:
        return None
    try:
        return Precision(precision)
    except ValueError as err:
        raise InputError(
            f"precision must be one of {', '.join(item.value for item in Precision)}, got {precision!r}."
        ) from err


def select_graph(
    manifest: Manifest, request: GraphRequest, *, precision: Precision | None, machine: Target | None
) -> GraphEntry:
    """Return the graph that runs a request on a machine.

    Without a precision it is the INT8 graph that the machine computes exactly, else the fp32 graph, else whatever INT8
    graph there is; on a machine without INT8 instructions it is the fp32 graph first. A stated precision is always
    kept, even where the machine may saturate (see ``is_exact_on``).

    Args:
        manifest: The bundle's.
        request: As ``make_request`` returns it.
        precision: What the caller insists on; None to choose.
        machine: Best INT8 instruction set of the machine; None if it has none.

    Returns:
        The graph's entry.

    Raises:
        ProfileError: If the profile has no graph of that precision.
    """
    graphs = [graph for graph in manifest.graphs if graph.profile == request.profile]
    eligible = [graph for graph in graphs if precision in {None, graph.precision}]
    if not eligible:
        there = ", ".join(sorted({graph.precision.value for graph in graphs}))
        wanted = "any" if precision is None else precision.value
        raise ProfileError(f"precision must be one of {there} for profile {request.profile!r}, got {wanted}.")
    return min(eligible, key=lambda graph: _preference(graph, machine))


def bind_request(
    manifest: Manifest, request: GraphRequest, *, precision: Precision | None, machine: Target | None
) -> BoundRequest:
    """Bind a request to the graph that ``select_graph`` chooses.

    Args:
        manifest: The bundle's.
        request: As ``make_request`` returns it.
        precision: What the caller insists on; None to choose.
        machine: Best INT8 instruction set of the machine; None if it has none.

    Returns:
        The graph with its lengths: the request's own, or those that the profile has frozen in.

    Raises:
        ProfileError: If the profile has no graph of that precision.
    """
    graph = select_graph(manifest, request, precision=precision, machine=machine)
    frozen = {entry.name: entry.length_config for entry in manifest.profiles}[request.profile]
    config = request.length_config if frozen is None else LengthConfig(frozen)
    return BoundRequest(manifest.model, graph, config)


def is_exact_on(graph: GraphEntry, machine: Target | None) -> bool:
    """Return whether a machine computes a graph as the exporter did, or may saturate.

    Args:
        graph: Any graph.
        machine: Best INT8 instruction set of the machine; None if it has none.

    Returns:
        False only for an INT8 graph whose number range is too wide for the machine.
    """
    return graph.target in _PREFERENCES[machine]


def select_graphs(manifest: Manifest, *, machine: Target | None) -> dict[str, GraphEntry]:
    """Return what a machine would run for each profile, the anytime graph included, where no precision is stated.

    Args:
        manifest: The bundle's.
        machine: Best INT8 instruction set of the machine; None if it has none.

    Returns:
        Profile's name -> its graph.
    """
    names = profile_names(manifest) + ((ANYTIME,) if has_anytime_graph(manifest) else ())
    return {name: select_graph(manifest, GraphRequest(name), precision=None, machine=machine) for name in names}


def explain_selection(
    manifest: Manifest, graph: GraphEntry, *, precision: Precision | None, machine: Target | None
) -> str | None:
    """Return what a user should know of a graph that was selected: that it is slower, or less exact, than it could be.

    Args:
        manifest: The bundle's.
        graph: As ``select_graph`` returned it.
        precision: What the caller insisted on.
        machine: As ``select_graph`` got it.

    Returns:
        A warning with its remedy; None where all is well, or the caller asked for it.
    """
    here = "without INT8 instructions" if machine is None else f"with {machine.value}"
    if graph.target is not None and not is_exact_on(graph, machine):
        return (
            f"{graph.file} was made for {graph.target.value}; this CPU, {here}, may saturate and answer less exactly. "
            "Export with --target avx2, or load with precision='fp32'."
        )
    if graph.target is not None and machine is None:
        return (
            f"{graph.file} is INT8, which this CPU, {here}, computes more slowly than fp32. "
            "Export with --precision both."
        )
    targets = sorted({other.target.value for other in manifest.graphs if other.target is not None})
    if graph.target is not None or precision is not None or not targets:
        return None
    remedy = "INT8 would be no faster." if machine is None else "Export with --target avx2 as well to have INT8 here."
    return f"The bundle's INT8 graphs are for {', '.join(targets)}; this CPU, {here}, runs fp32 instead. {remedy}"


def _preference(graph: GraphEntry, machine: Target | None) -> int:
    """Return a rank, lower is better; INT8 that may saturate comes last."""
    exact = _PREFERENCES[machine]
    return exact.index(graph.target) if graph.target in exact else len(exact)
