"""The runtime, installed alone, on a real bundle: run by ``make test-runtime`` in an environment of its own.

A script and no pytest module, because that environment has no pytest. It ends with exit code 1 at the first fault.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import dynbert
from dynbert.packages import MissingPackageError
from dynbert.scoring.labelled import load_labelled
from dynbert.scoring.metrics import score_numbers

ABSENT = ("torch", "transformers", "optimum", "onnx", "onnx_ir", "onnxscript", "neural_compressor", "pydantic", "rich")
TEXTS = ["How do I reset my password?", "I forgot my login.", "The museum opens at nine."]


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name(arguments[0])
    return subprocess.run([command, *arguments[1:]], capture_output=True, text=True, check=False)


def check(condition: object, message: str) -> None:
    if not condition:
        sys.exit(f"FAILED: {message}")
    print(f"ok: {message}")  # noqa: T201 -- a script


def check_scoring() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.csv"
        path.write_text("text,label\nA dog barks.,1\nIt rains.,0\n", encoding="utf-8")
        data = load_labelled(path, dynbert.Task.TEXT_CLASSIFICATION)
    check(data.label_names == ("0", "1"), "labelled data needs no further package")
    try:
        score_numbers([1, 2], [1, 2])
    except MissingPackageError as err:
        check("dynbert[eval]" in str(err), "metrics name the missing extra")
    else:
        check(find_spec("scipy"), "metrics work where scipy is installed")


def check_report(bundle: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        reported = run_command("dynbert", "report", bundle, "-o", str(page))
        if find_spec("jinja2"):
            check(page.is_file(), "dynbert report works where Jinja is installed")
        else:
            check(reported.returncode == 1 and "dynbert[report]" in reported.stderr, "dynbert report names its extra")
            check(not page.exists(), "and writes nothing")


def main(bundle: str) -> None:
    present = [name for name in ABSENT if find_spec(name)]
    check(not present, f"no package of the exporter is installed (found: {present})")
    model = dynbert.load(bundle)
    for profile in model.profiles:
        embeddings = model.encode(TEXTS, profile=profile)
        norms = np.linalg.norm(embeddings, axis=1)
        check(np.abs(norms - 1).max() < 1e-4, f"profile {profile} gives embeddings of unit length")
        check(embeddings[0] @ embeddings[1] > embeddings[0] @ embeddings[2], f"profile {profile} ranks by meaning")
    verified = run_command("dynbert", "verify", bundle)
    check(verified.returncode == 0, "dynbert verify: " + verified.stdout.strip().splitlines()[-1])
    [row] = model.kept_tokens(TEXTS[0], profile="fast")
    check(0 < len(row.layers[-1].kept) < len(row.tokens), "a profile says which tokens it keeps")
    check_scoring()
    check_report(bundle)
    exported = run_command("dynbert-export", "--model", "x", "--output", "y")
    check(exported.returncode == 1 and "dynbert[export]" in exported.stderr, "dynbert-export names the missing extra")
    check("Traceback" not in exported.stderr, "and shows no traceback")


if __name__ == "__main__":
    main(sys.argv[1])
