"""A whole run: prepare every artifact, measure cell by cell, judge the goals, write the files."""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert.manifest import FULL, Task
from dynbert_bench.competitors import Choices, Competitor, Registry
from dynbert_bench.environment import MAX_LOAD, choose_core, describe_environment, kept_off
from dynbert_bench.floor import Product, count_macs, floor_ms, list_products
from dynbert_bench.goals import judge_goals
from dynbert_bench.layout import INPUTS_FILE, OUTPUTS_FILE
from dynbert_bench.options import BALANCED, FAST, FULL_PLAN, Cell, Group, Plan, Shape
from dynbert_bench.plot import draw_plot
from dynbert_bench.protocol import MeasureSpec
from dynbert_bench.report import write_markdown
from dynbert_bench.results import (
    RESULTS_VERSION,
    CellInfo,
    FloorInfo,
    ModelShape,
    ProductRate,
    Results,
    Row,
    write_results,
)
from dynbert_bench.schedule import Entrant, Outcome, PreparedSetup, Timing, measure_in_turns
from dynbert_bench.store import PreparationError, Store
from dynbert_export.errors import MissingPackageError
from dynbert_export.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dynbert_bench.results import Environment

__all__ = ["BenchmarkProgress", "Request", "run_benchmark"]

RESULTS_FILE = "results.json"
REPORT_FILE = "report.md"
PLOT_FILE = "plot.png"

_PACKAGES = {Group.OPENVINO: ("openvino", "nncf")}
"""What a group needs that is not in the extra ``export``."""
_FAIR_SHARES = (0.95, 1.05)
"""CPU time by wall time of one thread that has a core to itself."""


class BenchmarkProgress(Progress, Protocol):
    """A listener that is told of steps as well."""

    def advance(self, done: int, total: int) -> None:
        """Tell how far the stage is."""


@dataclass(frozen=True)
class Request:
    """What the caller asks for."""

    output: Path
    """Folder of the files and of the prepared artifacts."""
    plan: Plan = FULL_PLAN
    model: str | None = None
    """Folder or hub id of a checkpoint in place of random weights."""
    lengths: LengthConfig | None = None
    """Lengths of ``fast`` in place of the plan's."""
    calibration: Path | None = None
    without: frozenset[Group] = field(default_factory=frozenset)


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
    notes = _tell(progress, _note_load(environment))
    plan, choices = _apply(request)
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
    floors = _find_floors(plan, rates)
    notes += _tell(progress, _note_shares(rows))
    results = Results(
        schema_version=RESULTS_VERSION,
        is_quick=plan.is_quick,
        model=_shape_info(plan.shape),
        base_line=_shape_info(plan.base_line),
        lengths={FAST: str(plan.fast), BALANCED: str(plan.balanced)},
        rounds=plan.rounds,
        burst_seconds=plan.burst_seconds,
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
        is_longest = cell == max(self.plan.cells, key=lambda each: (each.batch == 1, each.tokens))
        products = list_products(self.plan.shape, cell.tokens) if is_longest else ()
        return _Prepared(competitors, tuple((item, self._product_entrant(item)) for item in products))

    def measure(
        self, cell: Cell, prepared: _Prepared, progress: BenchmarkProgress
    ) -> tuple[list[Row], dict[Product, ProductRate]]:
        """Let everything of a cell take turns."""
        entrants = [entrant for _, entrant in (*prepared.competitors, *prepared.products)]
        timing = Timing(self.plan.rounds, self.plan.burst_seconds, self.plan.trial_bursts)
        with progress.stage(f"measure {cell}"), kept_off(self.core):
            outcomes = measure_in_turns(entrants, timing, self.folder, advance=progress.advance)
        rows = [_make_row(item, cell, outcomes[entrant.name]) for item, entrant in prepared.competitors]
        return rows, {item: _make_rate(item, outcomes[entrant.name]) for item, entrant in prepared.products}

    def _entrant(self, competitor: Competitor, cell: Cell) -> Entrant:
        name = f"{competitor.name}-{cell.task.value}-{cell.tokens}-{cell.batch}"
        try:
            inputs = self.store.get(self.registry.inputs(cell)) / INPUTS_FILE
            reference = self.store.get(self.registry.reference(competitor, cell)) / OUTPUTS_FILE
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
        return Entrant(name, tuple(setups), reference)

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


def _apply(request: Request) -> tuple[Plan, Choices]:
    """Return the plan with what the caller changed: another model has another shape, task and limit."""
    plan = request.plan
    calibration = str(request.calibration.absolute()) if request.calibration is not None else None
    choices = Choices(calibration=calibration, without=request.without)
    if request.model is not None:
        from dynbert_export.checkpoint.load import load_checkpoint

        checkpoint = load_checkpoint(request.model)
        config = checkpoint.config
        plan = replace(
            plan,
            shape=Shape(
                checkpoint.name,
                config.num_hidden_layers,
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                config.vocab_size,
            ),
            base_line=replace(plan.base_line, vocabulary=max(plan.base_line.vocabulary, config.vocab_size)),
            cells=_cells_of_task(plan, checkpoint.task, checkpoint.max_length),
            balanced=_spread(plan.balanced, config.num_hidden_layers),
        )
        choices = replace(choices, model=str(checkpoint.folder.resolve()), model_digest=_digest(checkpoint.folder))
    lengths = request.lengths or plan.fast
    lengths.check_layers(plan.shape.layers)
    if not lengths.is_fractional and max(lengths.lengths) > plan.max_length:
        lengths = LengthConfig(tuple(min(int(length), plan.max_length) for length in lengths.lengths))
    return replace(plan, fast=lengths), choices


def _cells_of_task(plan: Plan, task: Task, max_length: int) -> tuple[Cell, ...]:
    cells = [cell for cell in plan.cells if cell.task is Task.QUESTION_ANSWERING and cell.tokens <= max_length]
    if not cells:
        least = min(cell.tokens for cell in plan.cells)
        raise InputError(f"The model must read at least {least} tokens, got a maximum length of {max_length}.")
    return tuple(replace(cell, task=task) for cell in cells)


def _spread(lengths: LengthConfig, layers: int) -> LengthConfig:
    """Return fractions that fall over another number of layers as these do over theirs."""
    given = lengths.lengths
    return LengthConfig(tuple(float(given[index * len(given) // layers]) for index in range(layers)))


def _digest(folder: Path) -> str:
    """Return a hash of a checkpoint's files by name, size and time of change: reading gigabytes would take longer."""
    parts = []
    for path in sorted(folder.iterdir()):
        status = path.stat()
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _make_row(competitor: Competitor, cell: Cell, outcome: Outcome) -> Row:
    medians = tuple(1e3 * statistics.median(burst.seconds) for burst in outcome.bursts)
    wall = sum(sum(burst.seconds) for burst in outcome.bursts)
    chosen = next((trial for trial in outcome.trials if trial.is_chosen), None)
    return Row(
        competitor=competitor.name,
        label=competitor.label,
        is_ours=competitor.group is None,
        cell=CellInfo(task=cell.task.value, tokens=cell.tokens, batch=cell.batch),
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


def _find_floors(plan: Plan, rates: Mapping[Product, ProductRate]) -> tuple[FloorInfo, ...]:
    """Return the floor of each profile at each length; none where a peak is missing."""
    peaks = {
        precision: max(
            (rate.gmacs_per_second or 0.0 for rate in rates.values() if rate.precision == precision), default=0
        )
        for precision in ("int8", "fp32")
    }
    if not all(peaks.values()):
        return ()
    floors = []
    for tokens in sorted({cell.tokens for cell in plan.cells}):
        for profile in (FULL, BALANCED, FAST):
            macs = count_macs(plan.shape, tokens, plan.lengths_of(profile))
            best = (1e9 * peaks["int8"], 1e9 * peaks["fp32"])
            floors.append(
                FloorInfo(
                    profile=profile,
                    tokens=tokens,
                    int8_macs=macs.int8,
                    fp32_macs=macs.fp32,
                    ms=floor_ms(macs, *best),
                    int8_scores_ms=floor_ms(macs.with_int8_scores, *best),
                )
            )
    return tuple(floors)


def _tell(progress: BenchmarkProgress, notes: list[str]) -> list[str]:
    for note in notes:
        progress.note(note)
    return notes


def _note_load(environment: Environment) -> list[str]:
    """Say whether the machine was quiet before anything was done."""
    load = environment.load_average[0] if environment.load_average else 0.0
    note = (
        f"The load average was {load:.2f} at the start, on {environment.cores} usable cores: other processes were at "
        "work. Ratios suffer less than times; run it again on a quiet machine."
    )
    return [note] if load > MAX_LOAD else []


def _note_shares(rows: Sequence[Row]) -> list[str]:
    """Say whose CPU time was not that of one thread with a core to itself."""
    least, most = _FAIR_SHARES
    shares = {f"{row.label} ({row.cell.task}, {row.cell})": row.cpu_share for row in rows if row.cpu_share is not None}
    notes = [
        f"{name} used {share:.2f} s of CPU a second: that is more than one thread."
        for name, share in shares.items()
        if share > most
    ]
    short = {name: share for name, share in shares.items() if share < least}
    if short:
        worst = min(short, key=lambda name: short[name])
        notes.append(
            f"Other processes had the core meanwhile in {len(short)} of {len(shares)} measurements; the worst off, "
            f"{worst}, had it for {short[worst]:.0%} of its time. Run it again on a quiet machine."
        )
    return notes


def _shape_info(shape: Shape) -> ModelShape:
    return ModelShape(
        name=shape.name,
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        intermediate=shape.intermediate,
        vocabulary=shape.vocabulary,
    )
