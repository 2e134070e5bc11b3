"""Whether a bundle works on this machine: its files, each graph at many shapes, and a recorded probe.

The exporter verified the graphs where it made them. Kernels differ between processors, so a device can ask again: does
every graph open, run, and give the outputs that it gave at home?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.cpu import int8_target
from dynbert.errors import BundleError
from dynbert.inputs import ATTENTION_MASK, LENGTH_CONFIG, add_lengths, arrange_rows
from dynbert.lengths import LengthConfig
from dynbert.manifest import MANIFEST_FILE, Precision, check_files, read_manifest
from dynbert.outputs import has_positions
from dynbert.probe import input_key, output_key, read_probe
from dynbert.selection import GraphRequest, is_exact_on, select_graph
from dynbert.session import check_threads, open_graph
from dynbert.sweep import random_rows, steep_lengths, sweep_shapes
from dynbert.tasks.registry import task_spec
from dynbert.tokenization import TOKENIZER_FILE, TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from dynbert.manifest import GraphEntry, Manifest, ModelInfo
    from dynbert.session import Graph

__all__ = ["FP32_TOLERANCE", "INT8_COSINE", "Check", "verify_bundle"]

FP32_TOLERANCE = 1e-3
"""Largest difference of an fp32 graph from its probe."""
INT8_COSINE = 0.99
"""Least cosine similarity of an INT8 graph with its probe."""


@dataclass(frozen=True)
class Check:
    """One check of one file."""

    file: str
    name: str
    """``contract``, ``reads``, ``opens``, ``runs`` or ``probe``."""
    failures: tuple[str, ...] = ()
    """What is wrong; empty where the check passed."""
    note: str = ""
    """What was found, where that is worth telling."""

    @property
    def is_passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures


def verify_bundle(bundle: Path, *, threads: int | None = None) -> list[Check]:
    """Check a bundle from end to end.

    A failure does not stop the other checks, with one exception: when a file breaks the contract, no graph is opened,
    because what the files are is then unknown.

    Args:
        bundle: The bundle's folder.
        threads: Threads that compute; None for the usable cores.

    Returns:
        Every check that was made: the files first, then graph by graph.

    Raises:
        InputError: If ``threads`` cannot be had.
    """
    check_threads(threads)
    try:
        manifest = read_manifest(bundle)
    except BundleError as err:
        return [Check(MANIFEST_FILE, "contract", (str(err),))]
    checks = _contract_checks(bundle, manifest)
    if not all(check.is_passed for check in checks):
        return checks
    checks.append(_tokenizer_check(bundle, manifest))
    probe_check, probe = _read_probe(bundle, manifest)
    checks.append(probe_check)
    for entry in manifest.graphs:
        checks += _graph_checks(bundle, manifest, entry, threads, probe)
    return checks


def _contract_checks(bundle: Path, manifest: Manifest) -> list[Check]:
    checks = [Check(MANIFEST_FILE, "contract")]
    for entry in manifest.entries:
        try:
            check_files(bundle, (entry,))
            failures: tuple[str, ...] = ()
        except BundleError as err:
            failures = (str(err),)
        checks.append(Check(entry.file, "contract", failures))
    listed = {entry.file for entry in manifest.entries}
    needed = {TOKENIZER_FILE} | ({manifest.probe.file} if manifest.probe else set())
    missing = (f"{name} must be among the manifest's files, got no entry." for name in sorted(needed - listed))
    return checks + [Check(MANIFEST_FILE, "contract", (failure,)) for failure in missing]


def _tokenizer_check(bundle: Path, manifest: Manifest) -> Check:
    try:
        TextTokenizer.open(bundle / TOKENIZER_FILE, manifest.model)
    except BundleError as err:
        return Check(TOKENIZER_FILE, "reads", (str(err),))
    return Check(TOKENIZER_FILE, "reads")


def _read_probe(bundle: Path, manifest: Manifest) -> tuple[Check, dict[str, NDArray[Any]] | None]:
    """Return the check of the probe's file, and its arrays; no arrays where there is none or it cannot be read."""
    if manifest.probe is None:
        return Check(MANIFEST_FILE, "probe", note="the bundle has none"), None
    file = manifest.probe.file
    try:
        return Check(file, "reads"), read_probe(bundle / file)
    except BundleError as err:
        return Check(file, "reads", (str(err),)), None


def _graph_checks(
    bundle: Path, manifest: Manifest, entry: GraphEntry, threads: int | None, probe: Mapping[str, NDArray[Any]] | None
) -> Iterator[Check]:
    model = manifest.model
    try:
        graph = open_graph(bundle / entry.file, threads=threads)
    except BundleError as err:
        yield Check(entry.file, "opens", (str(err),))
        return
    yield Check(entry.file, "opens")
    shapes = sweep_shapes(model.max_length)
    failures = [failure for batch, tokens in shapes for failure in _run_failures(graph, model, batch, tokens)]
    yield Check(entry.file, "runs", tuple(failures), f"{len(shapes)} shapes")
    if probe is not None:
        check = _probe_check(graph, entry, probe)
        if not check.is_passed and _is_for_other_machines(manifest, entry):
            check = Check(entry.file, "probe", note="may saturate here; this CPU uses another INT8 graph of the bundle")
        yield check


def _is_for_other_machines(manifest: Manifest, entry: GraphEntry) -> bool:
    """Return whether a graph may saturate here, and the bundle has one beside it that does not."""
    machine = int8_target()
    request = GraphRequest(entry.profile)
    chosen = select_graph(manifest, request, precision=entry.precision, machine=machine)
    return not is_exact_on(entry, machine) and is_exact_on(chosen, machine)


def _run_failures(graph: Graph, model: ModelInfo, batch: int, tokens: int) -> Iterator[str]:
    inputs = arrange_rows(random_rows(np.random.default_rng(tokens), (batch, tokens), model), model.task)
    everything, steep = LengthConfig.everything(model.num_layers), steep_lengths(model.num_layers)
    for config in (everything, steep) if LENGTH_CONFIG in graph.inputs else (None,):
        where = f"batch {batch}, {tokens} tokens"
        if config is not None:
            where += f", lengths {config}"
        try:
            outputs = graph.run(add_lengths(inputs, config, always_keep_cls_token=model.always_keep_cls_token))
        except BundleError as err:
            yield f"{where}: {err}"
            continue
        yield from (f"{where}: {failure}" for failure in _output_failures(outputs, model, batch, tokens))


def _output_failures(outputs: Mapping[str, NDArray[Any]], model: ModelInfo, batch: int, tokens: int) -> Iterator[str]:
    for name, shape in task_spec(model.task).output_shapes(model, batch, tokens).items():
        if name not in outputs:
            yield f"the outputs must have {name}, got {', '.join(outputs)}"
            continue
        output = outputs[name]
        if not _fits(output.shape, shape):
            yield f"{name} must have the shape {list(shape)}, got {list(output.shape)}"
        if not np.isfinite(output).all():
            yield f"{name} must be finite, got {int((~np.isfinite(output)).sum())} values that are not"


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(want in {None, size} for size, want in zip(shape, expected, strict=True))


def _probe_check(graph: Graph, entry: GraphEntry, probe: Mapping[str, NDArray[Any]]) -> Check:
    wanted = [input_key(name) for name in sorted(graph.inputs)]
    wanted += [output_key(entry.file, name) for name in graph.outputs]
    missing = [key for key in wanted if key not in probe]
    if missing:
        return Check(entry.file, "probe", (f"The probe must have {', '.join(missing)}, got no such arrays.",))
    try:
        outputs = graph.run({name: probe[input_key(name)] for name in graph.inputs})
    except BundleError as err:
        return Check(entry.file, "probe", (str(err),))
    mask = probe.get(input_key(ATTENTION_MASK))
    failures, notes = [], []
    for name in graph.outputs:
        expected = probe[output_key(entry.file, name)]
        if expected.shape != outputs[name].shape:
            failures.append(
                f"{name} must have the probe's shape {list(expected.shape)}, got {list(outputs[name].shape)}"
            )
            continue
        got, want = (_valid(name, array, mask) for array in (outputs[name], expected))
        measured, is_close = _compare(got, want, entry.precision)
        notes.append(f"{name} {measured}")
        if not is_close:
            failures.append(f"{name} must be as recorded, got {measured}")
    machine = int8_target()
    if failures and not is_exact_on(entry, machine):
        failures.append(
            f"this CPU ({machine.value if machine else 'no INT8 instructions'}) sums pairs of INT8 products in 16 bits "
            "and may saturate on such a graph: export with --target avx2, or use precision fp32"
        )
    return Check(entry.file, "probe", tuple(failures), "; ".join(notes))


def _valid(name: str, output: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    """Return the values at valid positions, where an output has positions; what padding gives is nobody's answer."""
    if mask is None or not has_positions(name, output, mask):
        return output
    return np.asarray(output[mask.astype(bool)])


def _compare(output: NDArray[Any], expected: NDArray[Any], precision: Precision) -> tuple[str, bool]:
    """Return how near an output is to the recorded one, in words, and whether that is near enough."""
    got, want = output.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    if precision is Precision.FP32:
        difference = float(np.abs(got - want).max(initial=0.0))
        return f"differs by {difference:.1e} (at most {FP32_TOLERANCE:.0e})", difference <= FP32_TOLERANCE
    norms = float(np.linalg.norm(got) * np.linalg.norm(want))
    cosine = float(got @ want) / norms if norms > 0.0 else float(np.array_equal(got, want))
    return f"has cosine {cosine:.4f} (at least {INT8_COSINE})", cosine >= INT8_COSINE
