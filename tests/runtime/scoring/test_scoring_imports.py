"""What the folder loads: nothing before it is asked for, and no package of an extra before a function needs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dynbert

_FOLDER = Path(dynbert.__file__).parent / "scoring"
_CODE = """
import importlib, json, sys
import dynbert
at_import = sorted(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([at_import, sorted(sys.modules)]))
"""
_EXTRAS = {"sklearn", "scipy", "seqeval", "pyarrow", "datasets", "pandas", "torch", "transformers", "onnxruntime"}


def test_the_runtime_does_not_load_it_and_it_loads_no_extra():
    modules = [f"dynbert.scoring.{path.stem}" for path in _FOLDER.glob("*.py") if path.stem != "__init__"]
    assert len(modules) > 5
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *modules], capture_output=True, text=True, check=True, timeout=120
    )
    at_import, after = json.loads(done.stdout)
    assert not [name for name in at_import if name.startswith("dynbert.scoring")]
    assert set(modules) <= set(after)
    assert not {name.partition(".")[0] for name in after} & _EXTRAS
