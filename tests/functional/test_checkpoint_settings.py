"""``dynbert-export`` and what a checkpoint's own config asks for."""

from __future__ import annotations

import json

from dynbert.manifest import ANYTIME, FULL, Task, read_manifest
from tests.helpers.checkpoints import edit_json, make_checkpoint
from tests.helpers.commands import run_export


def test_lengths_of_the_checkpoint_become_a_profile_and_leave_its_config(tmp_path):
    model = make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION)
    edit_json(model / "config.json", length_config="(20, 10, 5)")
    bundle = tmp_path / "bundle"
    arguments = ("--length-config", "half=0.5,0.3,0.2", "--quantize", "none")
    result = run_export("--model", model, "-o", bundle, *arguments)
    note = "Note: config.json has the length_config 20,10,5: it is exported as the profile configured."
    assert note in " ".join(result.stderr.split())
    lengths = {profile.name: profile.length_config for profile in read_manifest(bundle).profiles}
    assert lengths == {FULL: None, "half": (0.5, 0.3, 0.2), "configured": (20, 10, 5), ANYTIME: None}
    assert "length_config" not in json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    assert "length_config" in json.loads((model / "config.json").read_text(encoding="utf-8"))
