"""What a search found, as a recipe, a table, a picture and JSON."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert.manifest import Target
from dynbert_export.options.config import make_config
from dynbert_export.options.recipe import load_recipe
from dynbert_export.options.search import make_search_config
from dynbert_export.searching import recipe
from dynbert_export.searching.outputs import check_outputs, list_outputs, write_outputs
from dynbert_export.searching.plot import plot_search
from dynbert_export.searching.recipe import write_recipe
from dynbert_export.searching.reporting import keep_report, read_report
from dynbert_export.searching.results import FoundProfile
from dynbert_export.searching.table import list_remarks, report_table


def _config(folder, **options):
    given = {"model": "owner/name", "data": "data.csv", "study": folder / "s.db", "output": folder / "found.yaml"}
    return make_search_config(overrides=given | options)


@pytest.fixture(autouse=True)
def _vnni(monkeypatch):
    """The tests do not depend on the machine."""
    monkeypatch.setattr(recipe, "int8_target", lambda: Target.VNNI)


def _read(text, folder):
    path = folder / "found.yaml"
    path.write_text(text, encoding="utf-8")
    return make_config(load_recipe(path), {"output": "out"})


def test_the_recipe_is_an_exports(report, tmp_path):
    config = _config(
        tmp_path, max_length=128, export={"smooth_quant_alpha": 0.5, "profiles": {"mine": [0.9, 0.8, 0.7]}}
    )
    text = write_recipe(report, config, tmp_path / "s.db.work" / "calibration.jsonl")
    export = _read(text, tmp_path)
    assert export.model == "owner/name"
    assert export.max_length == 128
    assert export.smooth_quant_alpha == 0.5
    assert export.calibration == tmp_path / "s.db.work" / "calibration.jsonl"
    assert {profile.name: profile.lengths for profile in export.profiles} == {
        "accurate": LengthConfig((0.8, 0.5, 0.4)),
        "fast": LengthConfig((0.5, 0.5, 0.4)),
    }


def test_the_recipe_says_which_layers_run(report, tmp_path):
    profiles = {
        **report.profiles,
        "accurate": FoundProfile((0.8, 0.8, 0.4), (0, 2)),
        "fast": FoundProfile(None, (0, 1)),
    }
    text = write_recipe(dataclasses.replace(report, profiles=profiles), _config(tmp_path), tmp_path / "c.jsonl")
    assert "  accurate: {length_config: [0.8, 0.8, 0.4], layer_config: [0, 2]}\n" in text
    found = {profile.name: profile for profile in _read(text, tmp_path).profiles}
    assert (found["accurate"].lengths, found["accurate"].layers) == (LengthConfig((0.8, 0.8, 0.4)), (0, 2))
    assert (found["fast"].lengths, found["fast"].layers) == (None, (0, 1))


def test_the_recipe_says_where_each_profile_comes_from(report, tmp_path):
    lines = write_recipe(report, _config(tmp_path), tmp_path / "c.jsonl").splitlines()
    place = lines.index("  fast: [0.5, 0.5, 0.4]")
    assert lines[place - 1] == "  # Trial 4: 4.00 ms, 0.8200 [0.7900, 0.8500]; 2.00 times as fast as full"
    assert "# fp32 full: 20.00 ms, 0.9000 [0.8700, 0.9300]" in lines


def test_a_name_with_a_line_break_breaks_no_recipe(report, tmp_path):
    odd = dataclasses.replace(report, aside="data\nmodel: evil.csv")
    assert _read(write_recipe(odd, _config(tmp_path), tmp_path / "c.jsonl"), tmp_path).model == "owner/name"


def test_places_outside_the_recipes_folder_are_absolute(report, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "recipes").mkdir()
    inside = write_recipe(report, _config(tmp_path, model=str(model)), tmp_path / "c.jsonl")
    assert "model: ./model\n" in inside
    config = _config(tmp_path / "recipes", model=os.path.relpath(model))
    assert f"model: {model}\n" in write_recipe(report, config, tmp_path / "c.jsonl")


@pytest.mark.parametrize(
    ("machine", "export", "target"),
    [
        (Target.VNNI, {}, None),
        (Target.AVX2, {}, "avx2"),
        (Target.ARM64, {}, "arm64"),
        (Target.AVX2, {"target": "vnni"}, "vnni"),
        (Target.AVX2, {"quantize": "none"}, None),
        (None, {}, None),
    ],
)
def test_the_target_is_the_machines_unless_it_was_named(tmp_path, machine, export, target):
    config = _config(tmp_path, export=export)
    assert config.list_export_options(machine).get("target") == target
    made = config.make_export(tmp_path / "bundle", calibration=None, machine=machine)
    assert made.precision.value == ("fp32" if export.get("quantize") else "both")


def _print(table):
    from rich.console import Console

    console = Console(width=240, record=True)
    console.print(table)
    return console.export_text()


def test_the_table_has_a_row_a_graph(report):
    text = _print(report_table(report))
    assert "a[b]c, text-classification" in text  # no markup
    rows = [line.split() for line in text.splitlines()]
    fast = next(row for row in rows if row[:1] == ["fast"])
    assert fast[1:10] == ["0.5,0.5,0.4", "4.00", "4.08", "2.00", "4.00", "8.00", "2.00x", "0.40", "0.8300"]
    assert " ".join(fast[10:]) == "0.8200 [0.7900, 0.8500] -0.0800 [-0.1000, -0.0600]"
    assert sum(row[:1] == ["uniform"] for row in rows) == 1


def test_remarks_name_refusals_ratios_errors_and_the_reference_point(report):
    remarks = list(list_remarks(report))
    assert remarks[0] == (
        "balanced (0.6,0.5,0.4, trial 3) was refused: it is faster on no input than full, which is better."
    )
    as_good = "each of at least its quality."
    assert remarks[1:4] == [
        f"accurate is 1.00 times as fast as the config of the fewest operations (accurate), {as_good}",
        "accurate is 1.17 times as fast as the best uniform config (uniform (trial 2)), of which none has its quality.",
        f"fast is 2.00 times as fast as the fastest staircase (full), {as_good}",
    ]
    assert "off by 4.0 % (median) and 9.0 % (95th percentile) on the 20 measurements" in remarks[4]
    assert remarks[5] == (
        "Hypervolume: 0.0123, random search 0.0101 (accuracy above 0.8100 times the logarithm of the time below "
        "8.10 ms)."
    )


def test_a_profile_that_nothing_compares_with_has_no_remark(report):
    alone = dataclasses.replace(report, contrasts=(), random=None, refusals=())
    remarks = list(list_remarks(alone))
    assert len(remarks) == 2
    assert "random" not in remarks[1]


@pytest.mark.parametrize("changes", [{}, {"random": None}, {"trials": ()}])
def test_the_picture_is_drawn(report, tmp_path, changes):
    plot_search(dataclasses.replace(report, **changes), tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes()[:4] == b"\x89PNG"


def test_outputs_are_three_files_and_nothing_else(report, tmp_path):
    config = _config(tmp_path / "new")
    write_outputs(report, config, tmp_path / "c.jsonl")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"found.yaml", "found.json", "found.png"}
    assert json.loads((tmp_path / "new" / "found.json").read_text(encoding="utf-8"))["model"] == "a[b]c"


def test_places_that_are_taken_are_refused(tmp_path):
    place = tmp_path / "found.yaml"
    check_outputs(place, overwrite=False)
    for number, path in enumerate(list_outputs(place)):
        path.write_text("mine", encoding="utf-8")
        with pytest.raises(InputError, match=r"must not exist yet, got .*Pass --overwrite"):
            check_outputs(place, overwrite=False)
        check_outputs(place, overwrite=True)
        path.unlink()
        assert number < 3
    (tmp_path / "found.png").mkdir()
    with pytest.raises(InputError, match="must be a file, got a folder"):
        check_outputs(place, overwrite=True)


def test_a_report_is_kept_for_the_other_workers(report, tmp_path):
    path, asked = tmp_path / "report.json", {"trials": 6, "random trials": None, "profiles": 3}
    keep_report(path, asked, report)
    found = read_report(path, asked, since=0.0)
    assert found is not None
    assert json.dumps(found.to_json()) == json.dumps(report.to_json())
    assert _print(report_table(found)) == _print(report_table(report))
    assert read_report(path, asked | {"trials": 7}, since=0.0) is None
    assert read_report(path, asked, since=path.stat().st_mtime + 1) is None
    path.write_text("{", encoding="utf-8")
    assert read_report(path, asked, since=0.0) is None
    assert read_report(tmp_path / "none.json", asked, since=0.0) is None
