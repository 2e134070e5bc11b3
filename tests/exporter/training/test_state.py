"""Where an interrupted training is kept: which one may be gone on with, and which of its states."""

from __future__ import annotations

import errno
import json

import pytest
from safetensors import SafetensorError

from dynbert.errors import InputError
from dynbert_export.errors import ExportError
from dynbert_export.training.state import explain_disk, find_state


def _begin(config):
    state = find_state(config)
    state.begin()
    return state


def test_nothing_is_written_before_a_training_begins(make_config, tmp_path):
    state = find_state(make_config())
    assert (state.folder, state.is_new, state.may_overwrite) == (tmp_path / "out.training", True, False)
    assert not list(tmp_path.iterdir())
    state.begin()
    assert sorted(path.name for path in state.folder.iterdir()) == ["options.json"]
    assert state.log.parent == state.folder


@pytest.mark.parametrize("output", ["out", "out/", "./out", "deep/../out", "new/folder/out"])
def test_the_folder_stands_beside_the_output(make_config, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    state = _begin(make_config(output=output))
    assert state.folder.name == "out.training"
    assert state.folder.is_dir()


def test_the_working_folder_can_be_the_output(make_config, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert find_state(make_config(output=".")).folder == tmp_path / "here.training"


def test_an_interrupted_training_is_neither_lost_nor_taken_up_unasked(make_config):
    _begin(make_config())
    with pytest.raises(
        InputError, match=r"must have no interrupted training beside it, got .*Pass --resume .* or --overwrite"
    ):
        find_state(make_config())
    assert find_state(make_config(resume=True)).is_new is False


def test_beginning_anew_removes_the_old_state_only_then(make_config):
    state = _begin(make_config())
    (state.folder / "checkpoint-3").mkdir()
    anew = find_state(make_config(overwrite=True))
    assert (anew.is_new, (state.folder / "checkpoint-3").is_dir()) == (True, True)
    anew.begin()
    assert not (state.folder / "checkpoint-3").exists()


def test_going_on_leaves_the_folder_as_it_is(make_config):
    state = _begin(make_config())
    (state.folder / "checkpoint-3").mkdir()
    find_state(make_config(resume=True)).begin()
    assert (state.folder / "checkpoint-3").is_dir()


def test_there_must_be_something_to_go_on_with(make_config):
    with pytest.raises(
        InputError, match=r"A training to resume must be there, got none at .*out.training\. Leave --resume out"
    ):
        find_state(make_config(resume=True))


def test_what_a_training_may_replace_is_remembered(make_config):
    _begin(make_config(overwrite=True))
    assert find_state(make_config(resume=True)).may_overwrite is True
    _begin(make_config(overwrite=True)).remove()
    _begin(make_config())
    assert find_state(make_config(resume=True)).may_overwrite is False


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"learning_rate": 1.0, "epochs": 9.0}, "epochs, learning_rate"),
        ({"profiles": {"half": [0.5, 0.5]}}, "profiles"),
        ({"eval_batch_size": 3}, "eval_batch_size"),
        ({"trainer": {"max_grad_norm": 2.0}}, "trainer"),
        ({"layers": [0]}, "layers"),
    ],
)
def test_other_options_are_not_gone_on_with(make_config, change, named):
    _begin(make_config())
    with pytest.raises(InputError, match=rf"it was begun with, got others: {named}\. Pass --overwrite to begin anew\."):
        find_state(make_config(resume=True, **change))


@pytest.mark.parametrize("change", [{"threads": 2}, {"report_to": ["tensorboard"]}])
def test_what_changes_nothing_may_be_another(make_config, change):
    _begin(make_config())
    assert find_state(make_config(resume=True, **change)).is_new is False


def test_other_contents_of_a_file_are_not_gone_on_with(make_config, tmp_path):
    data, other = tmp_path / "data.jsonl", tmp_path / "eval.jsonl"
    for path in (data, other):
        path.write_text("{}\n", encoding="utf-8")
    options = {"data": str(data), "eval_data": str(other)}
    _begin(make_config(**options))
    other.write_text("{} \n", encoding="utf-8")
    with pytest.raises(InputError, match="got others: contents of eval_data"):
        find_state(make_config(resume=True, **options))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"options": 1, "files": {}}', None])
def test_a_state_that_cannot_be_read_is_not_gone_on_with(make_config, content):
    state = _begin(make_config())
    (state.folder / "options.json").unlink()
    if content is not None:
        (state.folder / "options.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"must have a readable options.json, got none in .*Pass --overwrite"):
        find_state(make_config(resume=True))


def test_the_newest_whole_state_is_gone_on_from(make_config):
    state = _begin(make_config())
    assert state.find_checkpoint() is None
    for name, content in {
        "checkpoint-9": "{}",
        "checkpoint-10": "{}",
        "checkpoint-11": '{"global',
        "checkpoint-12": None,
        "checkpoint-x": "{}",
        "runs": "{}",
    }.items():
        (state.folder / name).mkdir()
        if content is not None:
            (state.folder / name / "trainer_state.json").write_text(content, encoding="utf-8")
    assert state.find_checkpoint() == state.folder / "checkpoint-10"


def test_a_new_training_that_fails_before_it_trains_leaves_nothing(make_config, tmp_path):
    state = _begin(make_config())
    with pytest.raises(KeyboardInterrupt), state.discarded_on_failure():
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    _begin(make_config())
    with pytest.raises(KeyboardInterrupt), find_state(make_config(resume=True)).discarded_on_failure():
        raise KeyboardInterrupt
    assert (tmp_path / "out.training").is_dir()


def test_what_was_before_is_kept(make_config):
    state = _begin(make_config())
    assert state.read_before() is None
    state.write_before({"full": 0.25})
    assert state.read_before() == {"full": 0.25}
    assert sorted(path.name for path in state.folder.iterdir()) == ["before.json", "options.json"]


def test_a_file_is_there_as_a_whole_or_not_at_all(make_config, monkeypatch):
    state = _begin(make_config())

    def half(path, _value):
        path.write_text("{", encoding="utf-8")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dynbert_export.training.state.write_json", half)
    with pytest.raises(
        ExportError, match=r"must be writable, got: No space left on device\. What was saved before stays"
    ):
        state.write_before({"full": 0.25})
    assert state.read_before() is None


@pytest.mark.parametrize(
    ("raised", "is_disk"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed writing file"), True),
        (RuntimeError("CUDA error"), False),
        (ConnectionResetError(errno.ECONNRESET, "reset by peer"), False),
        (KeyError("a bug"), False),
    ],
)
def test_a_disk_is_told_from_everything_else(tmp_path, raised, is_disk):
    with pytest.raises(ExportError if is_disk else type(raised)) as caught, explain_disk(tmp_path):
        raise raised
    assert (caught.value is raised) != is_disk
    if is_disk:
        assert str(caught.value).startswith(f"{tmp_path} must be writable, got: ")
        assert caught.value.exit_code == 1


def test_options_are_json(make_config):
    state = _begin(make_config(profiles={"half": [0.5, 0.5]}))
    asked = json.loads((state.folder / "options.json").read_text(encoding="utf-8"))
    assert asked["options"]["profiles"] == {"half": "0.5,0.5"}
    assert list(asked["files"]) == ["data"]
    assert "output" not in asked["options"]
