"""``dynbert report``: the whole page of a toy bundle, read as HTML."""

from __future__ import annotations

import re
import subprocess
import sys

import msgspec
import pytest

import dynbert
from dynbert.cpu import cpu_name
from dynbert.manifest import Precision, Task
from dynbert.page import report as report_module
from tests.helpers.bundles import make_bundle, rewrite_manifest
from tests.helpers.commands import invoke_dynbert
from tests.helpers.pages import read_page

_EVIL = "<script>alert('x')</script>\"'&"


def _invoke(*arguments, stdin=None):
    return invoke_dynbert("report", *arguments, stdin=stdin)


def _make(bundle, output, *arguments):
    result = _invoke(bundle.folder, "-o", output, *arguments)
    assert result.exit_code == 0, result.output
    return read_page(output.read_text(encoding="utf-8"))


def _panels(page, name):
    """Return the labels and panels of a choice, in order."""
    choice = page.find("fieldset", id=name)
    labels = [label.text for label in choice.find_all("label")]
    return dict(zip(labels, choice.find_all("div", class_="panel"), strict=True))


def _cells(table):
    return [[cell.text for cell in row.find_all() if cell.tag in {"td", "th"}] for row in table.find_all("tr")]


@pytest.fixture(scope="module")
def page(timed_bundle, tmp_path_factory):
    return _make(timed_bundle, tmp_path_factory.mktemp("page") / "report.html", "--text", "A good old book.")


def test_the_page_names_the_bundle_and_the_machine_of_its_times(page):
    assert page.find("h1").text == "toy/bert"
    facts = page.find("dl", class_="facts")
    names = [item.text for item in facts.find_all("dt")]
    values = dict(zip(names, (item.text for item in facts.find_all("dd")), strict=True))
    assert values["Times"] == "Toy CPU, measured when the bundle was made, 1 thread"
    assert values["Task"] == "feature-extraction: token-states (mean, normalised)"
    assert "Toy CPU" in page.find("section", aria_labelledby="latency").text


def test_every_table_and_chart_has_a_name_and_every_section_a_heading(page):
    tables = page.find_all("table")
    assert len(tables) >= 6
    for table in tables:
        assert table.find("caption").text
        assert all(header.attributes.get("scope") in {"row", "col"} for header in table.find_all("th"))
    charts = page.find_all("svg", role="img")
    assert len(charts) == 3
    assert all(chart.find_all("title")[0].text for chart in charts)
    for section in page.find_all("section"):
        assert section.find("h2").attributes["id"] == section.attributes["aria-labelledby"]


def test_the_table_of_graphs_has_their_numbers(page):
    table = page.find("section", aria_labelledby="choose").find("table")
    assert _cells(table)[1:3] == [
        ["full int8 avx2", "16.0", "4.00", "0.998", "all", _size(table, 1)],
        ["full fp32", "64.0", "1.00", "0.998", "all", _size(table, 2)],
    ]
    assert _cells(table)[0][1:4] == ["ms at 16 tokens", "speed (full fp32 = 1)", "cosine with full fp32"]


def _size(table, row):
    size = _cells(table)[row][5]
    assert re.fullmatch(r"[\d.]+ kB", size)
    return size


def test_latency_has_a_panel_a_number_format(page):
    panels = _panels(page, "format")
    assert list(panels) == ["int8 avx2", "fp32"]
    assert _cells(panels["fp32"].find("table"))[1:3] == [
        ["full fp32", "16.0", "32.0", "64.0"],
        ["fast fp32", "6.4", "12.8", "25.6"],
    ]


def test_tokens_left_are_those_of_the_length_configs(page):
    """The toy model reads 16 tokens, the shortest of the usual lengths: one panel, and nothing to choose."""
    assert not page.find_all("fieldset", id="tokens")
    assert _cells(page.find("section", aria_labelledby="lengths").find("table")) == [
        ["After", "full", "fast"],
        ["layer 1", "16", "8"],
        ["layer 2", "16", "4"],
        ["on average", "100%", "38%"],
    ]


def test_lengths_are_those_asked_for(timed_bundle, tmp_path):
    page = _make(timed_bundle, tmp_path / "report.html", "--text", "a", "--tokens", 12, "--tokens", 6, "--tokens", 6)
    assert list(_panels(page, "tokens")) == ["6", "12"]
    result = _invoke(timed_bundle.folder, "-o", tmp_path / "other.html", "--tokens", 17)
    assert (result.exit_code, "--tokens must be at most 16" in result.output) == (2, True)
    assert not (tmp_path / "other.html").exists()


def test_the_page_shows_what_the_api_says_is_left(page, timed_bundle):
    model = dynbert.load(timed_bundle.folder, threads=1)
    for profile, panel in _panels(page, "profile").items():
        [row] = model.kept_tokens("A good old book.", profile=profile)
        expected = {layer.layer: set(layer.kept) for layer in row.layers}
        layers = [item for item in panel.find("dl").find_all("div") if "data-layer" in item.attributes]
        assert layers
        assert panel.find("dl").find_all("dd")[0].text == "[CLS] A good old book. [SEP]"
        for layer in layers:
            kept = {int(token.attributes["data-position"]) for token in layer.find_all("span", class_="kept")}
            left = expected[int(layer.attributes["data-layer"])]
            assert layer.find("small").text == f"{len(left)} left"
            assert kept in (left, set())
            assert kept or len(left) == len(row.tokens)


def test_several_texts_are_shown_one_after_the_other(timed_bundle, tmp_path):
    page = _make(timed_bundle, tmp_path / "report.html", "--text", "a good film", "--text", "old paris")
    panel = _panels(page, "profile")["fast"]
    assert [heading.text for heading in panel.find_all("h3")] == ["Text 1", "Text 2"]
    assert [item.find_all("dd")[0].text for item in panel.find_all("dl")] == [
        "[CLS] a good film [SEP]",
        "[CLS] old paris [SEP]",
    ]


def test_evaluated_bundles_have_a_plot_a_data_set(judged_bundle, tmp_path):
    page = _make(judged_bundle, tmp_path / "report.html", "--text", "a good film")
    panels = _panels(page, "data")
    assert list(panels) == ["news", "letters"]
    assert len(panels["news"].find_all("line", class_="whisker")) == 4
    assert _cells(panels["news"].find("table"))[1][:4] == ["full int8 avx2", "3.00", "7.25", "0.890"]
    assert "agreement" not in page.find("section", aria_labelledby="quality").text
    assert "No loss that the data show" in page.find("ol", class_="advice").text


def test_agreement_is_not_called_quality(page):
    assert "This is agreement, not quality" in page.find("section", aria_labelledby="quality").text
    assert "was not evaluated on labelled data" in page.find("section", aria_labelledby="choose").text


def test_measuring_names_this_machine(timed_bundle, tmp_path):
    arguments = ("--text", "a", "--measure", "--tokens", 4, "--tokens", 9)
    page = _make(timed_bundle, tmp_path / "report.html", *arguments)
    section = page.find("section", aria_labelledby="latency").text
    assert f"on {cpu_name()}, measured for this report" in section
    assert "Toy CPU" not in page.text
    assert _cells(_panels(page, "format")["fp32"].find("table"))[0] == ["Profile", "4", "9"]


def test_whatever_comes_from_outside_is_text(tmp_path):
    labels = (_EVIL, "other", "third")
    bundle = make_bundle(tmp_path / "bundle", task=Task.TEXT_CLASSIFICATION, labels=labels, max_length=64)
    manifest = bundle.manifest
    graphs = tuple(
        msgspec.structs.replace(
            graph,
            profile=_EVIL if graph.profile == "fast" else graph.profile,
            quality=msgspec.structs.replace(graph.quality, data=_EVIL, metric=_EVIL),
        )
        for graph in manifest.graphs
    )
    profiles = tuple(
        msgspec.structs.replace(profile, name=_EVIL) if profile.name == "fast" else profile
        for profile in manifest.profiles
    )
    model = msgspec.structs.replace(manifest.model, id=_EVIL, architecture=_EVIL)
    evil = rewrite_manifest(
        bundle, model=model, cpu=_EVIL, graphs=graphs, profiles=profiles, created_by={"dynbert": _EVIL}
    )
    page = _make(evil, tmp_path / "report.html", "--text", _EVIL, "--text-pair", _EVIL)
    assert page.find("h1").text == _EVIL
    assert page.find("head").find("title").text.startswith(_EVIL)
    assert list(_panels(page, "profile")) == ["full", _EVIL]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 5
    assert "default-src 'none'" in page.find("meta", http_equiv="Content-Security-Policy").attributes["content"]


def test_a_bundle_of_before_says_why_a_view_is_missing(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", says_what_is_kept=False)
    page = _make(bundle, tmp_path / "report.html", "--text", "a book")
    section = page.find("section", aria_labelledby="text")
    assert "do not say which tokens they keep" in section.text
    assert not section.find_all("dl")
    assert page.find("section", aria_labelledby="lengths").find_all("table")


def test_a_text_of_ours_that_is_too_long_is_no_fault_but_the_user_s_is(timed_bundle, tmp_path):
    page = _make(timed_bundle, tmp_path / "report.html")
    assert "does not suit this bundle" in page.find("section", aria_labelledby="text").text
    result = _invoke(timed_bundle.folder, "-o", tmp_path / "other.html", "--text", "a " * 20)
    assert (result.exit_code, "text must have at most 14 tokens" in result.output) == (2, True)
    assert not (tmp_path / "other.html").exists()


def test_the_answer_of_a_question_and_every_window_is_there(question_bundle, tmp_path):
    context = "Zoé wrote it, and the old film, and the play, by a tower."
    page = _make(question_bundle, tmp_path / "report.html", "--question", "Who?", "--context", context)
    model = dynbert.load(question_bundle.folder, threads=1)
    for profile, panel in _panels(page, "profile").items():
        assert model(question="Who?", context=context, profile=profile).text in panel.find("p", class_="answer").text
        rows = model.kept_tokens(question="Who?", context=context, profile=profile)
        assert len(panel.find_all("dl")) == len(rows) > 1


def test_texts_come_from_standard_input_as_for_run(timed_bundle, tmp_path):
    result = _invoke(timed_bundle.folder, "-o", tmp_path / "report.html", "--text", "-", stdin="a book\nold paris\n")
    assert result.exit_code == 0, result.output
    page = read_page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(_panels(page, "profile")["fast"].find_all("dl")) == 2


def test_a_call_for_another_task_is_refused(timed_bundle, tmp_path):
    result = _invoke(timed_bundle.folder, "-o", tmp_path / "report.html", "--question", "who")
    assert result.exit_code == 2
    assert "takes --text" in result.output


def test_a_report_is_not_overwritten_by_itself(timed_bundle, tmp_path):
    output = tmp_path / "report.html"
    _make(timed_bundle, output, "--text", "a")
    result = _invoke(timed_bundle.folder, "-o", output, "--text", "a")
    assert (result.exit_code, "Pass --overwrite" in result.output) == (2, True)
    _make(timed_bundle, output, "--text", "a", "--overwrite")


def test_a_damaged_bundle_makes_no_report(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle.folder / "fast.fp32.onnx").write_bytes(b"x")
    result = _invoke(bundle.folder, "-o", tmp_path / "report.html")
    assert (result.exit_code, "fast.fp32.onnx" in result.output) == (1, True)
    assert not (tmp_path / "report.html").exists()


def test_without_memory_the_page_says_so(timed_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "measure_memory", lambda *_, **__: None)
    page = _make(timed_bundle, tmp_path / "report.html", "--text", "a")
    assert "measured on Linux only" in page.find("section", aria_labelledby="memory").text


def test_a_bundle_without_any_numbers_has_a_page(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", precisions=(Precision.INT8,), profiles={"full": None})
    graphs = tuple(msgspec.structs.replace(graph, latency=(), quality=None) for graph in bundle.manifest.graphs)
    page = _make(rewrite_manifest(bundle, graphs=graphs), tmp_path / "report.html", "--text", "a book")
    assert "has no times" in page.find("section", aria_labelledby="latency").text
    assert "Nothing is known" in page.find("section", aria_labelledby="choose").text
    assert "nothing to draw" in page.find("section", aria_labelledby="quality").text
    assert not page.find_all("input")  # one profile, one length: nothing to choose


def test_importing_the_runtime_and_the_command_loads_no_template_engine():
    code = "import sys, dynbert.cli, dynbert.page.report; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
