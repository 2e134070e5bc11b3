"""Options of a search: a recipe of its own, an export's recipe beside it, and what each decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Precision, Target
from dynbert_export.errors import RecipeError
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.options.recipe import load_recipe
from dynbert_export.options.search import make_search_config
from dynbert_export.options.vocabularies import SamplerOption, TargetOption

_NEEDED = {"model": "m", "data": "d.csv", "study": "s.db", "output": "o.yaml"}


def test_a_recipe_has_the_options_and_those_of_its_export(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(
        "model: ./checkpoint\ndata: owner/set\ntest: ./test.csv\nstudy: study.db\noutput: ../found.yaml\nprofiles: 2\n"
        "sampler: tpe\nexport:\n  target: avx2\n  profiles: {mine: [0.7, 0.5]}\n"
    )
    config = make_search_config(load_recipe(path), {"trials": 7})
    assert (config.model, config.data, config.test) == (
        str(tmp_path / "checkpoint"),
        "owner/set",
        str(tmp_path / "test.csv"),
    )
    assert (config.study, config.output) == (tmp_path / "study.db", tmp_path / ".." / "found.yaml")
    assert (config.profiles, config.trials, config.sampler) == (2, 7, SamplerOption.TPE)
    assert config.known == (NamedLengths("mine", LengthConfig((0.7, 0.5))),)
    assert config.list_export_options(Target.AVX2) == {"target": "avx2"}


def test_an_exports_recipe_gives_what_the_search_is_not_given():
    export = {"model": "theirs", "task": "text-classification", "max_length": 64, "output": "bundle", "threads": 1}
    config = make_search_config({"max_length": 32}, _NEEDED, export={**export, "profiles": {"a": [1.0, 0.5]}})
    assert (config.model, config.task.value, config.max_length) == ("m", "text-classification", 32)
    assert config.list_export_options(None) == {"threads": 1}
    assert [profile.name for profile in config.known] == ["a"]
    made = config.make_export(Path("work"), calibration=Path("c.txt"), machine=None)
    assert (made.output, made.calibration, made.max_length, made.threads) == (Path("work"), Path("c.txt"), 32, 1)
    assert set(made.precisions) == {Precision.INT8, Precision.FP32}
    assert made.profiles == ()


@pytest.mark.parametrize(
    ("machine", "export", "target"),
    [
        (Target.VNNI, {}, TargetOption.AUTO),
        (Target.AVX2, {}, TargetOption.AVX2),
        (Target.AVX2, {"target": "vnni"}, TargetOption.VNNI),
    ],
)
def test_the_working_bundle_is_for_this_machine(machine, export, target):
    config = make_search_config({**_NEEDED, "export": export})
    assert config.make_export(Path("work"), calibration=None, machine=machine).target == (target,)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"output": "o.txt"}, r"output must end in .yaml or .yml, got o.txt"),
        ({"test": "t.csv", "held_out": 0.2}, r"held_out and test must not be given together"),
        ({"keep_quality": 1.5}, "keep_quality"),
        ({"export": {"gate": {}}}, "gate"),
        ({"export": {"calibration": "c.txt"}}, r"export must not have calibration: .* Write it outside."),
        ({"export": {"profiles": {"fast": [0.5, 0.7]}}}, "must not increase"),
        ({"export": 3}, "export"),
        ({"trails": 3}, "trials"),
    ],
)
def test_wrong_options_are_refused(recipe, message):
    with pytest.raises(RecipeError, match=message):
        make_search_config(_NEEDED | recipe)
