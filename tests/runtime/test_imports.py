"""What importing and using the runtime loads: nothing of the exporter's, and little at first."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dynbert.manifest import Task
from tests.helpers.bundles import make_bundle

FORBIDDEN = {
    "dynbert_export",
    "torch",
    "transformers",
    "optimum",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "neural_compressor",
    "pydantic",
    "yaml",
    "rich",
    "psutil",
    "jinja2",
    "pickle5",
}
CODE = """
import json, sys
import dynbert
at_import = sorted(sys.modules)
if len(sys.argv) > 1:
    for folder, arguments in json.loads(sys.argv[1]):
        model = dynbert.load(folder)
        for profile in model.profiles:
            model(**arguments, profile=profile)
    from dynbert import cli, reports, verify
    checks = verify.verify_bundle(model._bundle)
    assert all(check.is_passed for check in checks)
    assert reports.verification_text(checks)
print(json.dumps([at_import, sorted(sys.modules)]))
"""


def modules_after(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [{name.partition(".")[0] for name in names} for names in json.loads(done.stdout)]


def test_import_loads_neither_engine_nor_tokenizer_nor_command():
    [at_import, _] = modules_after()
    assert "dynbert" in at_import
    assert not at_import & (FORBIDDEN | {"onnxruntime", "tokenizers", "click", "tabulate", "archspec"})


CALLS = {
    Task.QUESTION_ANSWERING: {"question": "who", "context": "zoe wrote it"},
    Task.TEXT_CLASSIFICATION: {"texts": "good film"},
    Task.TOKEN_CLASSIFICATION: {"texts": "zoe was in paris"},
    Task.FILL_MASK: {"texts": "a good [MASK]"},
    Task.NEXT_SENTENCE_PREDICTION: {"texts": "the film", "text_pair": "was bad"},
    Task.MULTIPLE_CHOICE: {"texts": "the film was", "choices": ["good", "bad"]},
    Task.PRETRAINING: {"texts": "a [MASK]", "text_pair": "was bad"},
    Task.FEATURE_EXTRACTION: {"texts": ["the book", "paris"]},
}


def test_use_loads_no_package_of_the_exporter(tmp_path):
    assert set(CALLS) == set(Task)
    work = [(str(make_bundle(tmp_path / task.value, task=task).folder), call) for task, call in CALLS.items()]
    [_, after] = modules_after(json.dumps(work))
    assert {"onnxruntime", "tokenizers", "click", "tabulate", "archspec"} <= after
    assert not after & FORBIDDEN


def test_public_names_are_all_there():
    import dynbert

    assert sorted(set(dynbert.__all__)) == sorted(dynbert.__all__)
    for name in dynbert.__all__:
        assert getattr(dynbert, name) is not None


def test_version_is_the_installed_one():
    from importlib.metadata import version

    import dynbert

    assert dynbert.__version__ == version("dynbert")


@pytest.mark.parametrize("error", ["BundleError", "InputError", "LengthConfigError", "ProfileError"])
def test_errors_are_one_family(error):
    import dynbert

    assert issubclass(getattr(dynbert, error), dynbert.DynbertError)
