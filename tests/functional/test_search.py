"""``dynbert-search`` as a whole: a recipe that exports, a study that goes on and is shared, and what is refused.

One search is made for all tests of a file; a test that goes on with it, or spoils it, has a copy.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time

import numpy as np
import pytest

import dynbert
import dynbert_export
from dynbert.inputs import arrange_rows
from dynbert.lengths import LengthConfig
from dynbert.manifest import Task, read_manifest
from dynbert.sweep import random_rows
from dynbert_export.options.config import make_config
from dynbert_export.options.recipe import load_recipe
from dynbert_export.searching import frozen, outputs, timing, worker
from dynbert_export.searching.candidate import Candidate
from dynbert_export.searching.graphs import SearchGraphs
from dynbert_export.searching.judging import Judge
from dynbert_export.searching.workplace import Workplace
from tests.helpers.commands import run_export
from tests.helpers.searching import (
    invoke_search,
    make_slow_checkpoint,
    start_search,
    write_long_texts,
    write_queries,
)
from tests.helpers.training import write_choices, write_lines, write_pairs, write_questions, write_words

_TRIALS = 12
_IMPATIENT = "import dynbert_export.searching.study as study\nstudy._HEARTBEAT_SECONDS, study._GRACE_SECONDS = 1, 4\n"
"""Workers notice within seconds that another one was killed."""


@pytest.fixture(scope="module", autouse=True)
def _brief_measurements():
    """Times of tiny models are noise, however long they are measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_ROUNDS", 2)
        patch.setattr(timing, "_ANYTIME_CONFIGS", 16)
        patch.setattr(timing, "_DRAWN_FROZEN", 0)
        patch.setattr(frozen, "_ROUNDS", 3)
        yield


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A checkpoint that is faster with fewer tokens, labelled texts, and an export's recipe for one thread."""
    folder = tmp_path_factory.mktemp("search")
    make_slow_checkpoint(folder / "model")
    write_long_texts(folder / "texts.jsonl")
    (folder / "export.yaml").write_text("threads: 1\nprofiles: {mine: [0.7, 0.6, 0.6]}\n", encoding="utf-8")
    return folder


def _options(material, folder, **changes):
    options = {
        "--model": material / "model",
        "--data": material / "texts.jsonl",
        "--export-recipe": material / "export.yaml",
        "--study": folder / "study.db",
        "-o": folder / "found.yaml",
        "--trials": _TRIALS,
        "--keep-quality": 0.3,
    }
    options |= {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    return [item for option in options.items() if option[1] is not None for item in option]


@pytest.fixture(scope="module")
def searched(material, tmp_path_factory):
    """A folder with a finished search, and what the command said."""
    folder = tmp_path_factory.mktemp("searched")
    result = invoke_search(*_options(material, folder), "--compare-random")
    assert result.exit_code == 0, (result.output, result.exception)
    return folder, result


@pytest.fixture
def copied(searched, tmp_path):
    """A copy of the finished search, to go on with."""
    shutil.copytree(searched[0], tmp_path / "copy")
    return tmp_path / "copy"


def _open_graphs(folder):
    work = Workplace.of(folder / "study.db")
    return SearchGraphs(work.bundle, read_manifest(work.bundle), work.sources, threads=1)


def _trials(study, name="dynbert-search"):
    """State, and attributes of each trial of a study, read without Optuna."""
    with sqlite3.connect(study) as database:
        rows = database.execute(
            "select trials.number, trials.state, a.key, a.value_json from trials join studies using (study_id) "
            "left join trial_user_attributes a using (trial_id) where study_name = ?",
            (name,),
        ).fetchall()
    trials: dict = {}
    for number, state, key, value in rows:
        trials.setdefault(number, {"state": state})[key] = None if value is None else json.loads(value)
    return trials


def _finished(study, name="dynbert-search", *, contrasts=False):
    ended = {number: each for number, each in _trials(study, name).items() if each["state"] in {"COMPLETE", "PRUNED"}}
    return {number: each for number, each in ended.items() if each.get("contrast", False) is contrasts}


def test_a_search_leaves_a_recipe_numbers_and_a_picture(material, searched):
    folder, _ = searched
    assert {path.name for path in folder.iterdir()} == {
        *("found.yaml", "found.json", "found.png", "study.db", "study.db.work"),
    }
    config = make_config(load_recipe(folder / "found.yaml"), {"output": "out"})
    report = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    assert config.model == str(material / "model")
    assert config.threads == 1  # of the export's recipe
    assert config.calibration == folder / "study.db.work" / "calibration.jsonl"
    assert {each.name: each.lengths for each in config.profiles} == {
        name: each["length_config"] and LengthConfig(tuple(each["length_config"]))
        for name, each in report["profiles"].items()
    }
    assert (folder / "found.png").read_bytes()[:4] == b"\x89PNG"


def test_the_report_is_about_what_was_measured(searched):
    report = json.loads((searched[0] / "found.json").read_text(encoding="utf-8"))
    graphs = {graph["name"]: graph for graph in report["graphs"]}
    reference, full = graphs["fp32 full"], graphs["full"]
    assert reference["metrics"][0]["difference"] is None
    assert {metric["name"] for metric in full["metrics"]} == {"accuracy", "f1", "matthews"}
    assert (report["examples"], report["aside_examples"]) == (60, 40)
    for name in report["profiles"]:
        graph = graphs[name]
        assert graph["role"] == "profile"
        assert graph["measured_ms"] < full["measured_ms"]
        assert graph["macs"] < full["macs"]
        metric = graph["metrics"][0]
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["difference"] == pytest.approx(metric["value"] - reference["metrics"][0]["value"])
        trials = (*report["trials"], *report["contrast_trials"])
        trial = next(each for each in trials if each["number"] == graph["trial"])
        assert (trial["config"], trial["quality"]) == (graph["config"], graph["searched_quality"])
    ratios = [contrast for contrast in report["contrasts"] if contrast["role"] == "uniform"]
    for contrast in ratios:
        expected = graphs[contrast["graph"]]["measured_ms"] / graphs[contrast["profile"]]["measured_ms"]
        assert contrast["speed_ratio"] == pytest.approx(expected)


def test_trials_are_as_many_as_were_asked_for_and_begin_with_what_people_would_try(searched):
    folder, _ = searched
    trials = _finished(folder / "study.db").values()
    assert len(trials) == len(_finished(folder / "study.db", "dynbert-search-random")) == _TRIALS
    families = [each["family"] for each in trials]
    assert families[:2] == ["full", "mine"]
    assert {"uniform", "staircase", "spread", "layers", "evolution"} <= set(families)
    configs = [each["config"] for each in trials]
    assert len(set(configs)) == len(configs)
    report = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    assert len(report["random"]["trials"]) == _TRIALS
    for kind, contrasts in (("trials", False), ("contrast_trials", True)):
        numbers = {trial["number"] for trial in report[kind]}
        assert numbers == set(_finished(folder / "study.db", contrasts=contrasts))
    assert report["hypervolume"] >= 0
    assert report["random"]["hypervolume"] >= 0


@pytest.mark.parametrize("layers", [(0, 2), (1, 2), (0, 1), (1,)])
def test_a_search_asks_without_layers_what_a_profile_would_answer(copied, layers):
    """To within what INT8 makes of attention in one operator, which frozen graphs have and anytime graphs have not."""
    graphs = _open_graphs(copied)
    candidate = Candidate(LengthConfig((1.0, 0.6, 0.5)), layers)
    frozen = graphs.freeze({"frozen": candidate}, copied / "frozen")["frozen"]
    rows = arrange_rows(random_rows(np.random.default_rng(0), (1, 40), graphs.model), graphs.model.task)
    respondents = (graphs.ask_candidate(candidate), frozen, graphs.ask_candidate(Candidate(candidate.lengths)))
    asked, expected, whole = (next(iter(each.run(rows, graphs.model).values())) for each in respondents)
    assert np.abs(asked - expected).max() < 0.1 * np.abs(whole - expected).max()


def test_graphs_without_layers_share_the_weights_on_disk(copied, monkeypatch):
    graphs = _open_graphs(copied)
    monkeypatch.setattr("dynbert_export.searching.graphs._MOST_OPEN", 1)
    before = {path.name for path in graphs.sources.iterdir()}
    for layers in ((0, 2), (1, 2), (0, 2)):
        graphs.ask_candidate(Candidate(LengthConfig((1.0, 0.6, 0.5)), layers))
    made = [path for path in graphs.sources.iterdir() if path.name not in before]
    assert all(path.suffix == ".onnx" for path in made)
    assert {path.name.partition(".int8")[0] for path in graphs.sources.glob("layers-*")} >= {"layers-0.2", "layers-1.2"}


def test_the_command_prints_a_table_and_remarks(searched):
    _, result = searched
    for said in ("fp32 full", "kept aside", "speed-up", "Time model: off by", "Hypervolume:", "random search"):
        assert said in result.stdout
    assert "a recipe for dynbert-export" in result.stderr


def test_an_output_that_is_there_is_refused_before_anything_is_done(material, searched):
    result = invoke_search(*_options(material, searched[0]))
    assert result.exit_code == 2
    assert f"Output must not exist yet, got {searched[0] / 'found.yaml'}" in result.stderr


def test_a_finished_study_goes_on_with_more_trials_and_exports_nothing_again(material, copied):
    before = _trials(copied / "study.db")
    manifest = copied / "study.db.work" / "bundle" / "manifest.json"
    written = manifest.stat().st_mtime_ns
    result = invoke_search(*_options(material, copied, trials=_TRIALS + 3), "--overwrite")
    assert result.exit_code == 0, (result.output, result.exception)
    after = _trials(copied / "study.db")
    assert {number: after[number] for number in before} == before
    assert len(_finished(copied / "study.db")) == _TRIALS + 3
    assert manifest.stat().st_mtime_ns == written
    assert "trace" not in result.stderr


@pytest.mark.slow
def test_the_function_is_the_command(material, copied):
    result = dynbert_export.search(
        export={"threads": 1, "profiles": {"mine": [0.7, 0.6, 0.6]}},
        model=material / "model",
        data=material / "texts.jsonl",
        study=copied / "study.db",
        output=copied / "other.yml",
        trials=_TRIALS,
        keep_quality=0.3,
        profiles=1,
    )
    assert result.recipe == copied / "other.yml"
    assert list(result.report.profiles) == ["fast"]
    assert (copied / "other.json").is_file()
    assert callable(dynbert_export.search)


def test_an_interruption_keeps_every_finished_trial(material, copied, monkeypatch):
    judge = Judge.judge
    calls = []

    def interrupted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return judge(self, *arguments, **options)

    before = len(_finished(copied / "study.db"))
    monkeypatch.setattr(Judge, "judge", interrupted)
    result = invoke_search(*_options(material, copied, trials=_TRIALS + 8), "--overwrite")
    assert result.exit_code == 1
    kept = len(_finished(copied / "study.db"))
    assert kept >= before + 2
    assert "RUNNING" not in {each["state"] for each in _trials(copied / "study.db").values()}


@pytest.mark.slow
def test_nothing_is_half_written_when_the_disk_refuses(material, copied, monkeypatch):
    before = {path.name: path.read_bytes() for path in copied.glob("found.*")}

    def refuse(_, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "plot_search", refuse)
    result = invoke_search(*_options(material, copied), "--overwrite")
    assert result.exit_code == 1
    assert "must be writable, got: No space left on device" in result.stderr
    assert {path.name: path.read_bytes() for path in copied.glob("found.*")} == before
    assert not [path for path in copied.iterdir() if path.name.startswith(".")]


def test_nothing_good_enough_is_said(material, copied):
    (copied / "study.db").unlink()
    result = invoke_search(*_options(material, copied, trials=1), "--overwrite")
    assert result.exit_code == 1
    assert (
        "must find a config that is faster than full and keeps 0.3 of its quality, got none in 1 trials"
        in result.stderr
    )


def test_no_time_is_said(material, copied):
    (copied / "study.db").unlink()
    result = invoke_search(*_options(material, copied, minutes=1e-9), "--overwrite")
    assert result.exit_code == 1
    assert "must judge the full model before it can compare" in result.stderr


# Wrong input. Nothing is exported for it.


def _rows(material, change):
    rows = [json.loads(line) for line in (material / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    return change(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [*rows[:5], {"text": "  ", "label": "bad"}, *rows[5:]],
            "have a text as 'text', got none at line 6",
        ),
        (lambda rows: [{"words": row["text"], "label": row["label"]} for row in rows], "must have a column of texts"),
        (lambda rows: [{"text": row["text"]} for row in rows], "must have a column of labels"),
        (lambda rows: [row | {"label": "good"} for row in rows], "at least two different labels, got 'good' alone"),
        (lambda rows: [row | {"label": "fine"} for row in rows], "'fine'"),
        (lambda rows: rows[:30], "at least 16 examples to search by and as many to keep aside, got 18 and 12"),
        (lambda _: [], "at least one example, got none"),
    ],
)
def test_data_that_cannot_be_used_is_refused(material, tmp_path, change, message):
    data = write_lines(tmp_path / "data.jsonl", _rows(material, change))
    result = invoke_search(*_options(material, tmp_path, data=data))
    assert result.exit_code in {1, 2}
    assert message in result.stderr
    assert not (tmp_path / "study.db").exists()
    assert not (tmp_path / "study.db.work").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "another data, data kept aside, seed"),
        ({"max_length": 64}, "another max_length"),
        ({"lengths": "counts"}, "another lengths"),
        ({"held_out": 0.3}, "another data, data kept aside"),
        ({"keep_quality": 0.5}, "another keep_quality"),
    ],
)
def test_a_study_of_other_options_or_data_is_refused_by_name(material, copied, changes, message):
    options = _options(material, copied, **changes)
    result = invoke_search(*options, "--overwrite")
    assert result.exit_code == 2
    assert f"{message} for {copied / 'study.db'}" in result.stderr
    assert "Give the same options and data, or another --study." in result.stderr


def test_a_working_folder_of_another_study_is_refused(material, copied):
    (copied / "study.db").unlink()
    result = invoke_search(*_options(material, copied, seed=1), "--overwrite")
    assert result.exit_code == 2
    assert f"another data, data kept aside, seed for {copied / 'study.db.work'}" in result.stderr


def test_files_that_are_no_study_are_refused(material, tmp_path):
    (tmp_path / "study.db").write_text("notes of mine, long enough to be a page\n" * 200, encoding="utf-8")
    result = invoke_search(*_options(material, tmp_path))
    assert result.exit_code == 2
    assert "Study must be a new file or one that dynbert-search wrote" in result.stderr
    assert (tmp_path / "study.db").read_text(encoding="utf-8").startswith("notes of mine")


def test_another_programs_study_is_refused(material, tmp_path):
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    optuna.create_study(storage=storage, study_name="theirs")
    result = invoke_search(*_options(material, tmp_path))
    assert result.exit_code == 2
    assert "with the studies theirs" in result.stderr
    assert optuna.get_all_study_names(storage) == ["theirs"]


def test_a_working_folder_with_other_files_is_refused(material, tmp_path):
    (tmp_path / "study.db.work").mkdir()
    (tmp_path / "study.db.work" / "thesis.txt").write_text("mine", encoding="utf-8")
    result = invoke_search(*_options(material, tmp_path))
    assert result.exit_code == 2
    assert "got other files in" in result.stderr
    assert "thesis.txt" in result.stderr


def test_a_metric_that_the_task_has_not_is_refused(material, tmp_path):
    result = invoke_search(*_options(material, tmp_path, metric="recall@1"))
    assert result.exit_code == 2
    assert "metric must be one of accuracy, f1, matthews, got 'recall@1'" in result.stderr
    assert not (tmp_path / "study.db").exists()


# Several processes.


def _wait(*processes):
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, (out, err)


@pytest.mark.slow
def test_the_recipe_exports(searched, tmp_path):
    run_export("--recipe", searched[0] / "found.yaml", "-o", tmp_path / "bundle")
    model = dynbert.load(tmp_path / "bundle")
    report = json.loads((searched[0] / "found.json").read_text(encoding="utf-8"))
    assert set(report["profiles"]) <= set(model.profiles)
    assert model("the city was good", profile=next(iter(report["profiles"]))).label in {"bad", "good"}


@pytest.mark.slow
def test_two_workers_share_the_trials_of_a_new_study(material, tmp_path):
    options = _options(material, tmp_path, trials=30)
    other = [*options, "-o", tmp_path / "other.yaml"]
    _wait(start_search(*options), start_search(*other))
    trials = _trials(tmp_path / "study.db")
    assert len(_finished(tmp_path / "study.db")) == 30
    assert {each["state"] for each in trials.values()} <= {"COMPLETE", "PRUNED"}
    one, two = (json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("found.json", "other.json"))
    assert one == two  # the end is measured once


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_workers_that_are_killed_lose_no_finished_trial(material, copied, seed):
    chance = np.random.default_rng(seed)
    trials = 60
    options = [*_options(material, copied, trials=trials), "--overwrite"]
    survivor = start_search(*options, before=_IMPATIENT)
    seen: dict = {}
    for _ in range(3):
        victim = start_search(*options, before=_IMPATIENT)
        time.sleep(chance.uniform(4.0, 9.0))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
        victim.stderr.close()
        now = {number: each for number, each in _trials(copied / "study.db").items() if each["state"] == "COMPLETE"}
        assert {number: now[number] for number in seen} == seen
        seen = now
    _wait(survivor)
    finished = _trials(copied / "study.db")
    assert {number: finished[number] for number in seen} == seen
    assert len(_finished(copied / "study.db")) == trials
    assert {each["state"] for each in finished.values()} <= {"COMPLETE", "PRUNED", "FAIL"}
    assert len(json.loads((copied / "found.json").read_text(encoding="utf-8"))["trials"]) == trials


@pytest.mark.slow
def test_a_study_whose_only_worker_was_killed_goes_on(material, tmp_path):
    options = _options(material, tmp_path, trials=12)
    for seconds in (6.0, 14.0, 22.0):
        process = start_search(*options, before=_IMPATIENT)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    _wait(start_search(*options, "--overwrite", before=_IMPATIENT))
    assert len(_finished(tmp_path / "study.db")) == 12
    assert {path.name for path in tmp_path.iterdir()} == {
        *("found.yaml", "found.json", "found.png", "study.db", "study.db.work"),
    }


def _write_similar(path, *, rows=64):
    generator = np.random.default_rng(0)
    lines = [json.loads(line) for line in write_pairs(path, rows=rows).read_text(encoding="utf-8").splitlines()]
    return write_lines(path, [line | {"score": float(generator.random())} for line in lines])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "write", "name", "options", "metric"),
    [
        (Task.QUESTION_ANSWERING, write_questions, "data.json", (), "f1"),
        (Task.TOKEN_CLASSIFICATION, write_words, "data.jsonl", (), "entity_f1"),
        (Task.MULTIPLE_CHOICE, write_choices, "data.jsonl", (), "accuracy"),
        (Task.FEATURE_EXTRACTION, _write_similar, "data.jsonl", (), "spearman"),
        (Task.FEATURE_EXTRACTION, write_queries, "data.json", ("--metric", "recall@1"), "recall@1"),
        (Task.FEATURE_EXTRACTION, write_queries, "data.json", ("--queries", "candidate"), "ndcg@10"),
        (
            Task.TEXT_CLASSIFICATION,
            write_long_texts,
            "data.jsonl",
            ("--lengths", "both", "--sampler", "tpe"),
            "accuracy",
        ),
    ],
)
def test_every_task_can_be_searched(material, tmp_path, task, write, name, options, metric, monkeypatch):
    """The tiny models of most tasks are no faster with fewer tokens: every candidate counts as faster here."""
    monkeypatch.setattr(
        worker.Worker, "predict_ms", lambda self, candidate: sum(candidate.resolve(64, self.body)) + 1.0
    )
    monkeypatch.setattr("dynbert_export.searching.choosing.find_superior", lambda *_: None)
    checkpoint = make_slow_checkpoint(tmp_path / "model", task)
    data = write(tmp_path / name, rows=80)
    arguments = _options(material, tmp_path, model=checkpoint, data=data, trials=8, keep_quality=0.01)
    recipe = tmp_path / "export.yaml"
    recipe.write_text("threads: 1\n", encoding="utf-8")
    result = invoke_search(*arguments, "--export-recipe", recipe, "--task", task.value, *options)
    assert result.exit_code == 0, (result.output, result.exception)
    report = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert report["metric"] == metric
    assert report["profiles"]
    config = make_config(load_recipe(tmp_path / "found.yaml"), {"output": "out"})
    assert config.task.value == task.value
