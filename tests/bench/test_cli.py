"""The ``dynbert-bench`` command: its options and errors, and a smoke run as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from dynbert.lengths import LengthConfig
from dynbert_bench import cli, run
from dynbert_bench.options import FULL_PLAN, QUICK_PLAN, Group
from dynbert_bench.request import Request
from dynbert_bench.results import read_results
from tests.helpers.results import make_results, make_row

_COMMAND = [sys.executable, "-c", "from dynbert_bench.cli import main; main()"]
_PEERS = [group.value for group in Group]


@pytest.fixture
def invoke(monkeypatch):
    """Run the command with a benchmark that keeps the request and returns recorded results."""
    seen = []

    def start(*arguments, rows=None):
        def fake(request, progress):
            seen.append(request)
            with progress.stage("a stage"):
                progress.advance(1, 2)
                progress.note("mind [this]")
            return make_results(rows or (make_row("dynbert-fast", 384, 10.0),), notes=("a note",))

        monkeypatch.setattr(run, "run_benchmark", fake)
        result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
        return result, seen[-1] if seen else None

    return start


def test_options_reach_the_request(invoke, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("a text", encoding="utf-8")
    result, request = invoke(
        *("--quick", "-o", tmp_path, "--without", "openvino", "--without", "torch", "--model", "m"),
        *("--length-config", "30,20,10", "--calibration", texts),
    )
    assert result.exit_code == 0, result.output
    assert request == Request(
        output=tmp_path,
        plan=QUICK_PLAN,
        model="m",
        lengths=LengthConfig((30, 20, 10)),
        calibration=texts,
        without=frozenset({Group.OPENVINO, Group.TORCH}),
    )


def test_defaults_are_the_full_plan(invoke):
    result, request = invoke()
    assert (result.exit_code, request.plan, request.without) == (0, FULL_PLAN, frozenset())
    assert "label of dynbert-fast" in result.output
    assert "not measured" in result.output


def test_a_failed_candidate_ends_with_exit_code_1_after_the_tables(invoke):
    rows = (make_row("dynbert-fast", 384, 10.0), make_row("openvino-fast", 384, 0.0, failure="it broke"))
    result, _ = invoke(rows=rows)
    assert result.exit_code == 1
    assert "label of dynbert-fast" in result.stdout
    assert "it broke" in result.stderr


def test_a_wrong_option_is_a_usage_error(invoke):
    for arguments in (["--without", "nobody"], ["--length-config", "1,2,3"], ["--calibration", "nowhere.txt"]):
        result, request = invoke(*arguments)
        assert (result.exit_code, request) == (2, None)


def test_missing_peers_are_named_with_both_ways_out(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    result = CliRunner().invoke(cli.main, ["--quick", "-o", str(tmp_path)])
    assert result.exit_code == 1
    assert "got none of matplotlib, openvino, nncf" in result.stderr
    assert "pip install 'dynbert[bench]', or leave them out: --without openvino" in result.stderr
    assert not list(tmp_path.iterdir())


def test_runtime_alone_is_told_what_to_install(monkeypatch):
    def without_rich(**_):
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    monkeypatch.setattr(cli, "_run", without_rich)
    result = CliRunner().invoke(cli.main, [])
    assert (result.exit_code, "pip install 'dynbert[bench]'" in result.output) == (1, True)


def test_lengths_that_do_not_fit_the_model_are_refused(tmp_path):
    without = [part for name in _PEERS for part in ("--without", name)]
    arguments = ["--quick", "-o", str(tmp_path), "--length-config", "9,8", *without]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert "must have 3 entries" in result.stderr


def _start(folder, *without):
    left_out = [part for name in without for part in ("--without", name)]
    command = [*_COMMAND, "--quick", "-o", str(folder), *left_out]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=dict(os.environ))


@pytest.mark.slow
def test_smoke_run_of_dynbert_alone(tmp_path):
    process = _start(tmp_path, *_PEERS)
    assert process.returncode == 0, process.stderr
    results = read_results(tmp_path / "results.json")
    assert [row.competitor for row in results.rows] == [
        *("dynbert-full", "dynbert-balanced", "dynbert-fast", "dynbert-anytime"),
    ]
    for row in results.rows:
        assert row.failure is None
        assert row.median_ms > 0
        assert row.cosine > 0.9
        assert len(row.rounds_ms) == QUICK_PLAN.timing.rounds
    assert all(item.gmacs_per_second > 0 for item in results.products)
    assert {item.profile for item in results.floors} == {"full", "balanced", "fast"}
    assert results.left_out == tuple(sorted(_PEERS))
    assert "dynbert INT8, fast" in process.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        *("artifacts", "processes", "results.json", "report.md", "plot.png"),
    }


@pytest.mark.peers
def test_smoke_run_with_all_peers(tmp_path):
    process = _start(tmp_path)
    assert process.returncode == 0, process.stderr
    results = read_results(tmp_path / "results.json")
    assert len(results.rows) == 15
    for row in results.rows:
        assert row.cosine > 0.9, row
        assert sum(trial.is_chosen for trial in row.trials) == 1
        assert not [trial for trial in row.trials if trial.failure], row
    again = _start(tmp_path)
    assert (again.returncode, "make " in again.stderr) == (0, False)  # all artifacts are used again
