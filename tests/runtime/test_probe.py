"""The probe: what the exporter records is what ``dynbert verify`` finds."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.errors import BundleError
from dynbert.probe import PROBE_FILE, input_key, output_key, read_probe, record_run, write_probe
from dynbert.session import open_graph
from tests.helpers.bundles import make_bundle

_IDS = np.array([[2, 5, 3]])


def test_a_recorded_run_is_read_back(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", inputs=("input_ids",), has_probe=False)
    graph = open_graph(bundle.folder / "full.fp32.onnx")
    recorded = record_run(graph, {"input_ids": _IDS, "attention_mask": np.ones_like(_IDS)})
    write_probe(tmp_path / PROBE_FILE, recorded)
    read = read_probe(tmp_path / PROBE_FILE)
    assert set(read) == {input_key("input_ids"), output_key("full.fp32.onnx", "last_hidden_state")}
    np.testing.assert_array_equal(read["input.input_ids"], _IDS)
    expected = bundle.expected("full.fp32.onnx", _IDS)["last_hidden_state"]
    np.testing.assert_array_equal(read["full.fp32.onnx/last_hidden_state"], expected)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / PROBE_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=r"^The probe must be a .npz archive"):
        read_probe(tmp_path / PROBE_FILE)


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / PROBE_FILE, **{"input.input_ids": np.array([{}], dtype=object)})
    with pytest.raises(BundleError, match=r"^The probe must be a .npz archive of plain arrays, got: Object arrays"):
        read_probe(tmp_path / PROBE_FILE)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"^The probe must be a .npz archive, got another kind of file\.$"):
        read_probe(tmp_path / PROBE_FILE)


@pytest.mark.parametrize(("offset", "message"), [(8, "is encrypted"), (10, "compression method is not supported")])
def test_a_damaged_archive_is_refused(tmp_path, offset, message):
    path = tmp_path / PROBE_FILE
    write_probe(path, {"input.input_ids": _IDS})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + offset] ^= 1  # the directory's flags, and its method
    path.write_bytes(raw)
    with pytest.raises(BundleError, match=f"^The probe must be a .npz archive of plain arrays, got: .*{message}"):
        read_probe(path)
