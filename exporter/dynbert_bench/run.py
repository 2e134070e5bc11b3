"""A whole run: prepare every artifact, measure cell by cell, judge the goals, write the files."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from dynbert_bench.competitors import Registry
from dynbert_bench.environment import choose_core, describe_environment, kept_off
from dynbert_bench.floor import find_floors, list_products
from dynbert_bench.goals import judge_goals
from dynbert_bench.layout import INPUTS_FILE, outputs_file
from dynbert_bench.notes import note_load, note_shares
from dynbert_bench.options import BALANCED, FAST, Group, longest_cell
from dynbert_bench.plot import draw_plot
from dynbert_bench.protocol import MeasureSpec
from dynbert_bench.report import write_markdown
from dynbert_bench.request import apply_request
from dynbert_bench.results import (
    RESULTS_VERSION,
    ProductRate,
    Results,
    Row,
    write_results,
)
from dynbert_bench.schedule import Entrant, PreparedSetup, measure_in_turns
from dynbert_bench.store import PreparationError, Store
from dynbert_export.errors import MissingPackageError
from dynbert_export.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dynbert_bench.competitors import Competitor
    from dynbert_bench.floor import Product
    from dynbert_bench.options import Cell, Plan
    from dynbert_bench.request import Request
    from dynbert_bench.schedule import Outcome

__all__ = ["BenchmarkProgress", "run_benchmark"]

RESULTS_FILE = "results.json"
REPORT_FILE = "report.md"
PLOT_FILE = "plot.png"

_PACKAGES = {Group.OPENVINO: ("openvino", "nncf")}
"""What a group needs that is not in the extra ``export``."""


class BenchmarkProgress(Progress, Protocol):
    """A listener that is told of steps as well."""

    def advance(self, done: int, total: int) -> None:
        """Tell how far the stage is."""


def run_benchmark(request: Request, progress: BenchmarkProgress) -> Results:
    """Measure everything, and write ``results.json``, ``report.md`` and ``plot.png``.

    Args:
        request: What to measure.
        progress: Told of stages, steps and notes.

    Returns:
        The results; ``failures`` names what could not be measured.

    Raises:
        MissingPackageError: If a package of the extra ``bench`` is missing.
        InputError: If the lengths do not fit the model.
        ExportError: If a given checkpoint cannot be used.
    """
    _check_packages(request.without)
    core = choose_core()
    environment = describe_environment(core)
    notes = _tell(progress, note_load(environment))
    plan, choices = apply_request(request)
    registry = Registry(plan, choices)
    folder = request.output / "processes"
    folder.mkdir(parents=True, exist_ok=True)
    work = _Work(plan, registry, Store(request.output / "artifacts", progress), folder, core)
    prepared = {cell: work.prepare(cell) for cell in plan.cells}
    rows: list[Row] = []
    rates: dict[Product, ProductRate] = {}
    for cell, entrants in prepared.items():
        found, found_rates = work.measure(cell, entrants, progress)
        rows += found
        rates |= found_rates
    floors = find_floors(plan, rates.values())
    notes += _tell(progress, note_shares(rows))
    results = Results(
        schema_version=RESULTS_VERSION,
        is_quick=plan.is_quick,
        model=plan.shape,
        base_line=plan.base_line,
        lengths={FAST: str(plan.fast), BALANCED: str(plan.balanced)},
        rounds=plan.timing.rounds,
        burst_seconds=plan.timing.burst_seconds,
        environment=environment,
        rows=tuple(rows),
        products=tuple(rates.values()),
        floors=floors,
        goals=judge_goals(rows, floors, is_quick=plan.is_quick),
        left_out=tuple(sorted(group.value for group in request.without)),
        notes=tuple(notes),
    )
    write_results(request.output / RESULTS_FILE, results)
    (request.output / REPORT_FILE).write_text(write_markdown(results), encoding="utf-8")
    draw_plot(results, request.output / PLOT_FILE)
    return results


@dataclass(frozen=True)
class _Prepared:
    """What takes turns in a cell."""

    competitors: tuple[tuple[Competitor, Entrant], ...]
    products: tuple[tuple[Product, Entrant], ...]


@dataclass(frozen=True)
class _Work:
    """What preparing and measuring share."""

    plan: Plan
    registry: Registry
    store: Store
    folder: Path
    core: int | None

    def prepare(self, cell: Cell) -> _Prepared:
        """Make all artifacts of a cell; what fails becomes an entrant that says why."""
        competitors = tuple((item, self._entrant(item, cell)) for item in self.registry.competitors(cell))
        is_longest = cell == longest_cell(self.plan.cells)
        products = list_products(self.plan.shape, cell.tokens) if is_longest else ()
        return _Prepared(competitors, tuple((item, self._product_entrant(item)) for item in products))

    def measure(
        self, cell: Cell, prepared: _Prepared, progress: BenchmarkProgress
    ) -> tuple[list[Row], dict[Product, ProductRate]]:
        """Let everything of a cell take turns."""
        entrants = [entrant for _, entrant in (*prepared.competitors, *prepared.products)]
        with progress.stage(f"measure {cell}"), kept_off(self.core):
            outcomes = measure_in_turns(entrants, self.plan.timing, self.folder, advance=progress.advance)
        rows = [_make_row(item, cell, outcomes[entrant.name]) for item, entrant in prepared.competitors]
        return rows, {item: _make_rate(item, outcomes[entrant.name]) for item, entrant in prepared.products}

    def _entrant(self, competitor: Competitor, cell: Cell) -> Entrant:
        name = f"{competitor.name}-{cell.task.value}-{cell.tokens}-{cell.batch}"
        try:
            inputs = self.store.get(self.registry.inputs(cell)) / INPUTS_FILE
            references = self.store.get(self.registry.reference(competitor, cell))
        except PreparationError as err:
            return Entrant(name, tuple(PreparedSetup(item.name, None, str(err)) for item in competitor.setups), None)
        setups = []
        for index, setup in enumerate(competitor.setups):
            try:
                artifact = self.store.get(setup.artifact)
            except PreparationError as err:
                setups.append(PreparedSetup(setup.name, None, str(err)))
                continue
            spec = self._spec(setup.engine, artifact, inputs, f"{name}-{index}", setup.options)
            setups.append(PreparedSetup(setup.name, spec))
        return Entrant(name, tuple(setups), references / outputs_file(competitor.lengths))

    def _product_entrant(self, product: Product) -> Entrant:
        name = f"product-{product.blueprint.key}"
        try:
            artifact = self.store.get(product.blueprint)
        except PreparationError as err:
            return Entrant(name, (PreparedSetup(str(product), None, str(err)),), None)
        spec = self._spec("onnxruntime", artifact, artifact / INPUTS_FILE, f"{name}-0", {})
        return Entrant(name, (PreparedSetup(str(product), spec),), None)

    def _spec(self, engine: str, artifact: Path, inputs: Path, name: str, options: Mapping[str, object]) -> MeasureSpec:
        return MeasureSpec(
            engine=engine,
            artifact=str(artifact),
            options=dict(options),
            inputs=str(inputs),
            outputs=str(self.folder / f"{name}.npz"),
            warm_up_seconds=self.plan.timing.warm_up_seconds,
            core=self.core,
        )


def _check_packages(without: frozenset[Group]) -> None:
    """See that all of the extra is there that was not left out."""
    missing = ["matplotlib"] if find_spec("matplotlib") is None else []
    remedy = ""
    for group, packages in _PACKAGES.items():
        if group not in without and (absent := [name for name in packages if find_spec(name) is None]):
            missing += absent
            remedy += f", or leave them out: --without {group.value}"
    if missing:
        raise MissingPackageError(
            f"The benchmark's packages must be installed, got none of {', '.join(missing)}. "
            f"Run: pip install 'dynbert[bench]'{remedy}"
        )


def _make_row(competitor: Competitor, cell: Cell, outcome: Outcome) -> Row:
    medians = tuple(1e3 * statistics.median(burst.seconds) for burst in outcome.bursts)
    wall = sum(sum(burst.seconds) for burst in outcome.bursts)
    chosen = next((trial for trial in outcome.trials if trial.is_chosen), None)
    return Row(
        competitor=competitor.name,
        label=competitor.label,
        is_ours=competitor.group is None,
        cell=cell,
        trials=outcome.trials,
        median_ms=statistics.median(medians) if medians else None,
        rounds_ms=medians,
        runs=sum(len(burst.seconds) for burst in outcome.bursts),
        cpu_share=sum(burst.cpu_seconds for burst in outcome.bursts) / wall if wall else None,
        load_seconds=outcome.load_seconds,
        pss_bytes=outcome.bursts[-1].pss_bytes if outcome.bursts else None,
        cosine=chosen.cosine if chosen else None,
        max_abs_difference=chosen.max_abs_difference if chosen else None,
        failure=outcome.failure,
    )


def _make_rate(product: Product, outcome: Outcome) -> ProductRate:
    medians = [statistics.median(burst.seconds) for burst in outcome.bursts]
    seconds = statistics.median(medians) if medians else None
    return ProductRate(
        name=str(product),
        precision=product.precision,
        macs=product.macs,
        median_ms=None if seconds is None else 1e3 * seconds,
        gmacs_per_second=None if seconds is None else product.macs / seconds / 1e9,
        failure=outcome.failure,
    )


def _tell(progress: BenchmarkProgress, notes: list[str]) -> list[str]:
    for note in notes:
        progress.note(note)
    return notes
