"""The measuring process and its protocol, with a toy graph."""

from __future__ import annotations

import io
import json
import os

import msgspec
import numpy as np
import pytest

from dynbert_bench.arrays import read_arrays
from dynbert_bench.client import Worker, WorkerError
from dynbert_bench.competitors import Choices, Registry
from dynbert_bench.options import FULL_PLAN
from dynbert_bench.protocol import Burst, Ready
from dynbert_bench.worker import _MAKERS, _PSS_FILE, _find_maker, measure


def test_protocol_is_a_ready_then_a_burst_for_each_request(make_spec):
    spec, answers = make_spec("toy"), io.StringIO()
    measure(spec, io.StringIO('{"seconds": 0.01}\n{"seconds": 0.0}\n'), answers)
    lines = answers.getvalue().splitlines()
    ready = msgspec.json.decode(lines[0], type=Ready)
    bursts = [msgspec.json.decode(line, type=Burst) for line in lines[1:]]
    assert ready.load_seconds > 0
    assert len(bursts) == 2
    assert len(bursts[1].seconds) == 3  # however short the request, three runs
    assert all(seconds > 0 for burst in bursts for seconds in burst.seconds)


def test_outputs_are_those_of_every_feed(make_spec):
    spec = make_spec("toy", scale=3.0)
    measure(spec, io.StringIO(), io.StringIO())
    outputs = read_arrays(spec.outputs)
    np.testing.assert_array_equal([item["output"] for item in outputs], [[3.0, -6.0], [9.0, 1.5]])


def test_process_answers_bursts_and_ends(make_spec, tmp_path):
    with Worker(make_spec("toy"), tmp_path / "toy-files") as worker:
        burst = worker.burst(0.02)
        assert sum(burst.seconds) > 0
        if _PSS_FILE.exists():
            assert burst.pss_bytes > 1e6
        else:
            assert burst.pss_bytes is None
    assert worker._process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a core")
def test_process_is_bound_to_its_core(make_spec, tmp_path):
    core = min(os.sched_getaffinity(0))
    with Worker(msgspec.structs.replace(make_spec("toy"), core=core), tmp_path / "toy-files") as worker:
        assert os.sched_getaffinity(worker._process.pid) == {core}


def test_process_that_cannot_load_says_why(make_spec, tmp_path):
    spec = msgspec.structs.replace(make_spec("toy"), artifact=str(tmp_path / "nowhere"))
    with pytest.raises(WorkerError, match=r"must run to its end, got exit code 1: .*nowhere"):
        Worker(spec, tmp_path / "toy-files")


def test_process_that_dies_says_so_at_the_next_burst(make_spec, tmp_path):
    with Worker(make_spec("toy"), tmp_path / "toy-files") as worker:
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(WorkerError, match="exit code -9"):
            worker.burst(0.01)


def test_what_packages_print_does_not_reach_the_protocol(make_spec, tmp_path):
    spec = make_spec("toy")
    with Worker(spec, tmp_path / "toy-files"):
        pass
    stored = json.loads((tmp_path / "toy-files.spec.json").read_text())
    assert stored == json.loads(msgspec.json.encode(spec))
    assert not (tmp_path / "toy-files.log").read_text()


def test_every_kind_of_artifact_has_its_maker():
    blueprints = [blueprint for cell in FULL_PLAN.cells for blueprint in _blueprints_of(Registry(FULL_PLAN), cell)]
    blueprints += _blueprints_of(Registry(FULL_PLAN, Choices(model="m", model_digest="d")), FULL_PLAN.cells[0])
    kinds = {"product"}
    while blueprints:
        blueprint = blueprints.pop()
        kinds.add(blueprint.kind)
        blueprints += blueprint.sources.values()
    assert kinds == set(_MAKERS)
    assert all(callable(_find_maker(kind)) for kind in kinds)


def _blueprints_of(registry, cell):
    competitors = registry.competitors(cell)
    artifacts = [setup.artifact for competitor in competitors for setup in competitor.setups]
    return [registry.inputs(cell), registry.reference(competitors[0], cell), *artifacts]
