"""The table that ends an export."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from dynbert.manifest import ANYTIME, FULL, Latency, Precision
from dynbert_export.report.summary import summary_table
from tests.helpers.bundles import make_bundle


def _latency(median_ms):
    return (Latency(tokens=16, batch=1, threads=1, median_ms=median_ms),)


def _table(manifest, baseline):
    return summary_table(manifest, _latency(baseline))


def _rows(table):
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]


def _print(table, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def _without_fp32_full(manifest):
    graphs = tuple(g for g in manifest.graphs if (g.profile, g.precision) != (FULL, Precision.FP32))
    return msgspec.structs.replace(manifest, graphs=graphs)


def test_summary_has_a_row_for_each_graph_under_the_base_line(manifest):
    manifest = _without_fp32_full(manifest)
    table = _table(manifest, 12.0)
    assert [(row[0], row[2]) for row in _rows(table)] == [
        ("fp32 full", "fp32"),
        *((graph.profile, graph.precision.value + _target(graph)) for graph in manifest.graphs),
    ]
    names = ("profile", "lengths", "precision", "graph kB", "tokens kept", "ms at 16", "speed-up", "agreement")
    assert tuple(column.header for column in table.columns) == names


def _target(graph):
    return f" {graph.target.value}" if graph.target else ""


def test_summary_numbers_are_the_manifest_s(manifest):
    manifest = _without_fp32_full(manifest)
    table = _table(manifest, 12.0)
    by_graph = {(row[0], row[2]): row for row in _rows(table)}
    fast = by_graph["fast", "int8 avx2"]
    entry = next(g for g in manifest.graphs if g.profile == "fast" and g.precision is Precision.INT8)
    assert fast[1] == "0.5,0.25"
    assert fast[3] == f"{entry.bytes / 1e3:.0f}"
    assert fast[4] == "38 %"  # (8 + 4) of 2 * 16 tokens
    assert fast[5] == f"{entry.latency[0].median_ms:.2f}"
    assert fast[6] == f"{12.0 / entry.latency[0].median_ms:.2f}x"
    assert fast[7] == "0.9976"
    assert by_graph["fp32 full", "fp32"][3:] == ["not kept", "100 %", "12.00", "1.00x", "1.0000"]
    assert by_graph[ANYTIME, "fp32"][1] == "at run time (measured: all)"
    assert (by_graph[ANYTIME, "fp32"][4], by_graph[ANYTIME, "fp32"][7]) == ("", "")
    assert by_graph[FULL, "int8 avx2"][1] == "all"
    text = _print(table, 160)
    assert manifest.cpu in text
    assert "cosine (toy texts)" in text


@pytest.mark.parametrize("baseline", [1.0, 2.0, 99.0])  # an INT8 graph's latency, the fp32 graph's own, nobody's
def test_summary_has_no_further_base_line_when_it_is_published(manifest, baseline):
    rows = _rows(_table(manifest, baseline))
    assert [row[0] for row in rows] == [graph.profile for graph in manifest.graphs]


def test_summary_has_its_base_line_when_another_graph_took_as_long(manifest):
    manifest = _without_fp32_full(manifest)
    assert _rows(_table(manifest, manifest.graphs[0].latency[0].median_ms))[0][0] == "fp32 full"


def _measured_at_five_lengths(manifest):
    latency = tuple(
        Latency(tokens=tokens, batch=1, threads=1, median_ms=tokens / 8) for tokens in (16, 32, 64, 128, 512)
    )
    lengths = (512, 512, 480, 460, 440, 420, 400, 380, 360, 340, 320, 300)
    profiles = tuple(
        msgspec.structs.replace(profile, length_config=lengths if profile.name == "fast" else None)
        for profile in manifest.profiles
    )
    model = msgspec.structs.replace(manifest.model, num_layers=12, max_length=512)
    graphs = tuple(msgspec.structs.replace(graph, latency=latency) for graph in manifest.graphs)
    return msgspec.structs.replace(manifest, model=model, profiles=profiles, graphs=graphs), latency


def test_summary_fits_into_a_log_and_into_a_small_terminal(manifest):
    manifest, latency = _measured_at_five_lengths(manifest)
    table = summary_table(manifest, latency)
    log = _print(table, 160)
    header = "graph kB tokens kept ms at 16 ms at 32 ms at 64 ms at 128 ms at 512 speed-up agreement"
    assert header in log
    assert "2.00     4.00     8.00     16.00     64.00    1.00x    0.9976" in log
    small = _print(table, 80)
    assert "…" not in log + small
    assert max(map(len, small.splitlines())) <= 80
    assert small.count("64.00") == len(manifest.graphs)


def test_a_regression_s_summary_says_closeness(manifest):
    graphs = tuple(
        msgspec.structs.replace(
            graph, quality=graph.quality and msgspec.structs.replace(graph.quality, metric="closeness")
        )
        for graph in manifest.graphs
    )
    manifest = msgspec.structs.replace(manifest, graphs=graphs)
    assert "Agreement with fp32 full: closeness (toy texts)." in " ".join(_print(_table(manifest, 12.0), 160).split())


def test_left_out_layers_do_no_work_in_the_share_of_tokens(tmp_path):
    profiles = {FULL: None, "fast": (0.5, 0.25), "short": None, ANYTIME: None}
    bundle = make_bundle(tmp_path / "toy", profiles=profiles, layers={"fast": (1,), "short": (0,)})
    table = _table(_without_fp32_full(bundle.manifest), 12.0)
    assert [column.header for column in table.columns][:5] == ["profile", "lengths", "layers", "precision", "graph kB"]
    cells = {row[0]: (row[1], row[2], row[5]) for row in _rows(table)}
    assert cells["fp32 full"] == ("all", "all", "100 %")
    assert cells[FULL] == ("all", "all", "100 %")
    assert cells["fast"] == ("0.5,0.25", "1", "12 %")  # 4 of 2 * 16 tokens
    assert cells["short"] == ("all", "0", "50 %")
    assert cells[ANYTIME] == ("at run time (measured: all)", "all", "")
