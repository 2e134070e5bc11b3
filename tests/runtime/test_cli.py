"""The ``dynbert`` command: what it prints, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import dynbert
from dynbert import cli, tables
from dynbert.manifest import FULL, Target
from tests.helpers.bundles import WORDS, make_bundle, rewrite_manifest
from tests.helpers.commands import invoke_dynbert
from tests.helpers.damage import damage_changed, damage_missing


def run_command(*arguments, stdin=""):
    """Run the command in a process of its own, as a shell would."""
    code = "from dynbert.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        input=stdin.encode(),
        capture_output=True,
        check=False,
        timeout=120,
    )


def test_version_is_printed():
    result = invoke_dynbert("--version")
    assert (result.exit_code, dynbert.__version__ in result.output) == (0, True)


def test_the_package_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "dynbert", "--version"], capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"python -m dynbert, version {dynbert.__version__}\n"


def test_help_names_the_commands():
    output = invoke_dynbert("-h").output
    assert all(command in output for command in ("info", "run", "verify"))


def test_info_shows_model_machine_and_every_graph(embedding_bundle):
    result = invoke_dynbert("info", embedding_bundle.folder)
    assert result.exit_code == 0, result.output
    for text in ("toy/bert", "feature-extraction", "16 tokens", "Toy CPU", "ms at 16", "1.25", "0.9976 cosine"):
        assert text in result.output
    lines = {
        line.split()[4]: line.split() for line in result.output.splitlines() if ".onnx" in line and "at run" not in line
    }
    assert lines["fast.int8.onnx"][:4] == ["fast", "0.5,0.25", "int8", "avx2"]
    assert lines["full.fp32.onnx"][:4] == ["full", "all", "fp32", "any"]
    assert "at run time" in result.output


def test_info_is_the_manifest_and_the_machine_when_json(embedding_bundle):
    record = json.loads(invoke_dynbert("info", embedding_bundle.folder, "--json").output)
    assert set(record) == {"machine", "would_use", "manifest"}
    assert record["would_use"] == {name: f"{name}.int8.onnx" for name in ("full", "fast", "anytime")}
    assert set(record["machine"]) == {"cpu", "int8", "cores"}
    assert record["manifest"] == json.loads((embedding_bundle.folder / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("machine", "line"),
    [
        (Target.VNNI, "vnni graphs"),
        (Target.AVX2, "vnni graphs, which may saturate here; fp32 graphs"),
        (None, "vnni graphs, which may saturate here; fp32 graphs"),
    ],
)
def test_info_says_which_graphs_this_cpu_would_use(tmp_path, monkeypatch, machine, line):
    from dynbert import reports

    bundle = make_bundle(tmp_path / "bundle", target=Target.VNNI)
    graphs = tuple(graph for graph in bundle.manifest.graphs if graph.file != "full.fp32.onnx")
    rewrite_manifest(bundle, graphs=graphs)
    monkeypatch.setattr(reports, "int8_target", lambda: machine)
    lines = [row.split(maxsplit=2) for row in invoke_dynbert("info", bundle.folder).output.splitlines()]
    assert [row[2] for row in lines if row[:2] == ["would", "use"]] == [line]


def test_run_answers_a_question(question_bundle):
    arguments = ("run", question_bundle.folder, "--question", "who wrote it?", "--profile", "fast")
    context = "Zoé wrote the good old book"
    expected = dynbert.load(question_bundle.folder)(question="who wrote it?", context=context, profile="fast")
    record = json.loads(invoke_dynbert(*arguments, "--context", context, "--json").output)
    assert record["text"] == expected.text == context[record["start"] : record["end"]]
    assert record["score"] == pytest.approx(expected.score)
    text = invoke_dynbert(*arguments, "--context", context).output
    assert text.splitlines()[0] == expected.text
    for further in ((), ("--context", "-")):
        assert json.loads(invoke_dynbert(*arguments, *further, "--json", stdin=context).output) == record


def test_run_passes_every_option_on(question_bundle):
    context = "the good old book was bad. " * 9
    options = {"length_config": "9,4", "stride": 3, "max_answer_tokens": 2}
    model = dynbert.load(question_bundle.folder, precision="fp32")
    expected = model(question="who", context=context, **options)
    flags = [item for name, value in options.items() for item in (f"--{name.replace('_', '-')}", value)]
    result = invoke_dynbert(
        "run", question_bundle.folder, "--question", "who", "--context", context, *flags,
        "--precision", "fp32", "--threads", 1, "--json",
    )  # fmt: skip
    record = json.loads(result.output)
    assert (record["start"], record["end"]) == (expected.start, expected.end)
    assert record["score"] == pytest.approx(expected.score)


def test_run_passes_the_batch_size_on(classification_bundle, fed_shapes):
    for flags, sizes in (((), [3]), (("--batch-size", 2), [2, 1])):
        result = invoke_dynbert("run", classification_bundle.folder, *flags, stdin="good\nbad\nthe\n")
        assert result.exit_code == 0, result.output
        assert [shape[0] for shape, _ in fed_shapes] == sizes
        fed_shapes.clear()


def test_run_classifies_texts(classification_bundle):
    texts = ["good film", "bad film"]
    expected = dynbert.load(classification_bundle.folder)(texts)
    flags = [item for text in texts for item in ("--text", text)]
    result = invoke_dynbert("run", classification_bundle.folder, *flags)
    assert result.exit_code == 0, result.output
    rows = result.output.splitlines()[2:]
    assert [row.split()[2] for row in rows] == [item.label for item in expected]
    records = json.loads(invoke_dynbert("run", classification_bundle.folder, *flags, "--json").output)
    assert [record["text"] for record in records] == texts
    for record, item in zip(records, expected, strict=True):
        assert record["label"] == item.label
        assert record["scores"] == pytest.approx(dict(item.scores))


def test_run_embeds_texts_and_compares_them(embedding_bundle):
    texts = ["the book", "paris"]
    embeddings = dynbert.load(embedding_bundle.folder)(texts)
    flags = [item for text in texts for item in ("--text", text)]
    output = invoke_dynbert("run", embedding_bundle.folder, *flags).output
    assert f"{embeddings[0, 0]:+.4f}" in output
    assert "Cosine similarity" in output
    assert f"{float(embeddings[0] @ embeddings[1]):.3f}" in output
    records = json.loads(invoke_dynbert("run", embedding_bundle.folder, *flags, "--json").output)
    np.testing.assert_allclose([record["embedding"] for record in records], embeddings, rtol=1e-6)
    single = invoke_dynbert("run", embedding_bundle.folder, "--text", "paris").output
    assert "Cosine" not in single


def test_run_compares_every_text_with_every_other_up_to_ten(embedding_bundle):
    lines = [f"{'the ' * count}book" for count in range(1, 12)]
    ten = invoke_dynbert("run", embedding_bundle.folder, stdin="\n".join(lines[:10])).output
    assert len(ten.split("Cosine similarity\n")[1].splitlines()) == 12
    assert "most similar" not in ten


def test_run_tells_of_each_text_its_nearest_when_there_are_many(embedding_bundle):
    texts = [" ".join(WORDS[4 + (index * step) % 24] for step in (1, 3, 5, 7, 9, 11)) for index in range(300)]
    embeddings = dynbert.load(embedding_bundle.folder)(texts)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    lines = invoke_dynbert("run", embedding_bundle.folder, stdin="\n".join(texts)).output.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["text", "embedding", "(8", "numbers)", "most", "similar"]
    assert len(lines) == 302
    for index, line in enumerate(lines[2:]):
        head, numbers, nearest = re.fullmatch(r"(\d+ +\S.*?)  +(\S+ \S+) \.\.\.  +(\d+ \(.*\))", line.strip()).groups()
        assert head.split() == [str(index + 1), *tables.shorten(texts[index], 30).split()]
        assert numbers == " ".join(f"{value:+.4f}" for value in embeddings[index, :2])
        others = np.delete(unit @ unit[index], index)
        other, cosine = re.fullmatch(r"(\d+) \((.*)\)", nearest).groups()
        assert int(other) != index + 1
        assert float(cosine) == pytest.approx(others.max(), abs=6e-4)
        assert float(unit[int(other) - 1] @ unit[index]) == pytest.approx(others.max(), abs=1e-5)


def test_run_gives_all_embeddings_as_json_when_there_are_many(embedding_bundle):
    texts = [f"{'the ' * (1 + count % 9)}book" for count in range(30)]
    records = json.loads(invoke_dynbert("run", embedding_bundle.folder, "--json", stdin="\n".join(texts)).output)
    assert [record["text"] for record in records] == texts
    assert {len(record["embedding"]) for record in records} == {8}


def test_run_reads_one_text_a_line_from_standard_input(classification_bundle):
    for flags in ((), ("--text", "-")):
        done = run_command("run", classification_bundle.folder, "--json", *flags, stdin="good film\r\nZoé \u2028 bad\n")
        assert done.returncode == 0, done.stderr
        assert [record["text"] for record in json.loads(done.stdout)] == ["good film", "Zoé \u2028 bad"]


@pytest.mark.parametrize(
    ("stdin", "texts", "warning"),
    [
        ("good\n\nbad\n", ["good", "bad"], "line 2 is empty and was skipped."),
        ("good\nbad\n\nfilm\nold\ntower\n \t\nparis", ["good", "bad", "film", "old", "tower", "paris"],
         "lines 3 and 7 are empty and were skipped."),
        ("\n\r\n\ngood", ["good"], "lines 1, 2 and 3 are empty and were skipped."),
        ("\n" * 5 + "good", ["good"], "lines 1, 2, 3, 4 and 5 are empty and were skipped."),
        ("\n" * 7 + "good", ["good"], "lines 1, 2, 3, 4, 5 and 2 more are empty and were skipped."),
    ],
)  # fmt: skip
def test_run_skips_empty_lines_and_says_which(classification_bundle, stdin, texts, warning):
    result = invoke_dynbert("run", classification_bundle.folder, "--json", stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, f"Warning: {warning}\n")
    assert [record["text"] for record in json.loads(result.stdout)] == texts


def test_run_says_nothing_of_the_last_line_end(classification_bundle):
    assert invoke_dynbert("run", classification_bundle.folder, stdin="good\nbad\n\n\n").stderr == ""


def test_run_keeps_pairs_together_when_a_line_is_empty(classification_bundle):
    pairs = ["it was", "the book", "naive"]
    flags = [item for text in pairs for item in ("--text-pair", text)]
    result = invoke_dynbert("run", classification_bundle.folder, "--json", *flags, stdin="good\n\nbad\n")
    assert result.stderr == "Warning: line 2 is empty and was skipped.\n"
    records = json.loads(result.stdout)
    assert [(record["text"], record["text_pair"]) for record in records] == [("good", "it was"), ("bad", "naive")]
    expected = dynbert.load(classification_bundle.folder)(["good", "bad"], text_pair=["it was", "naive"])
    assert [record["label"] for record in records] == [item.label for item in expected]


def test_run_ends_with_2_when_lines_and_pairs_differ_in_number(classification_bundle):
    result = invoke_dynbert(
        "run", classification_bundle.folder, "--text-pair", "a", "--text-pair", "b", stdin="good\n\nbad\n"
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: texts and text_pair must be two strings or two lists of one length, got a list of 3 and a list of 2.\n"
    )


def test_run_ends_with_2_when_all_lines_are_empty(classification_bundle):
    result = invoke_dynbert("run", classification_bundle.folder, stdin="\n \n\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("Error: Give --text, or the input on standard input.\n")


def test_run_mixes_texts_of_options_and_standard_input(classification_bundle):
    result = invoke_dynbert(
        "run", classification_bundle.folder, "--text", "good", "--text", "-", "--json", stdin="bad\nfilm\n"
    )
    assert [record["text"] for record in json.loads(result.output)] == ["good", "bad", "film"]
    result = invoke_dynbert(
        "run", classification_bundle.folder, "--text", "good", "--text", "-", "--json", stdin="bad\n\nfilm\n"
    )
    assert [record["text"] for record in json.loads(result.stdout)] == ["good", "bad", "film"]
    assert result.stderr == "Warning: line 2 is empty and was skipped.\n"


def test_run_cuts_long_text_only_when_told_to(classification_bundle):
    text = "good " * 40
    refused = invoke_dynbert("run", classification_bundle.folder, "--text", text)
    assert refused.exit_code == 2
    assert "text must have at most 14 tokens" in refused.stderr
    assert "--truncate" in refused.stderr
    assert invoke_dynbert("run", classification_bundle.folder, "--text", text, "--truncate").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", ""], "text must have at least one token, got ''"),
        (["--text", "a", "--profile", "slow"], "profile must be one of full, fast, got 'slow'"),
        (["--text", "a", "--length-config", "5"], "must have 2 entries, one a layer, got 1"),
        (["--text", "a", "--length-config", "x,y"], "Length 0 must be a number, got 'x'"),
        (["--text", "a", "--length-config", "5,4", "--profile", "fast"], "a profile or a length config, got both"),
        (["--text", "a", "--precision", "int4"], "'int4' is not one of 'int8', 'fp32'"),
        (["--text", "a", "--threads", "0"], "0 is not in the range x>=1"),
        (["--text", "a", "--stride", "-1"], "-1 is not in the range x>=0"),
        (["--text", "a", "--batch-size", "0"], "0 is not in the range x>=1"),
        (
            ["--text", "a", "--stride", "3"],
            "takes --text (optional: --text-pair, --truncate, --batch-size), got --text, --stride.",
        ),
        (["--question", "a", "--context", "b"], "A bundle for text-classification takes --text"),
        ([], "Give --text, or the input on standard input"),
        (["--text", "-"], "Give --text, or the input on standard input"),
    ],
)
def test_run_ends_with_2_when_an_option_is_wrong(classification_bundle, arguments, message):
    result = invoke_dynbert("run", classification_bundle.folder, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--text", "a"],
            "takes --question and --context (optional: --stride, --max-answer-tokens, --batch-size), got --text.",
        ),
        (["--question", "a"], "Give --context, or the input on standard input"),
        (["--question", "a", "--context", "b", "--truncate"], "got --question, --context, --truncate."),
        (["--question", "", "--context", "b"], "question must have at least one token"),
        (["--question", "who", "--context", "the " * 99, "--stride", "15"], "stride must be less than the 12 tokens"),
    ],
)
def test_run_ends_with_2_when_a_question_is_wrong(question_bundle, arguments, message):
    result = invoke_dynbert("run", question_bundle.folder, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_run_ends_with_2_when_standard_input_is_not_utf_8(classification_bundle):
    result = CliRunner().invoke(cli.main, ["run", str(classification_bundle.folder)], input=b"\xff\xfe")
    assert result.exit_code == 2
    assert "Standard input must be UTF-8" in result.stderr


NO_BUNDLE = "A bundle must be a folder with a readable manifest.json, got {folder} (No such file or directory)."
NO_GRAPH = "{folder}/fast.int8.onnx must be a regular file of the bundle, got none. Copy or export it again."


@pytest.mark.parametrize("arguments", [["info"], ["run", "--text", "the book"]], ids=["info", "run"])
@pytest.mark.parametrize(("is_there", "message"), [(False, NO_BUNDLE), (True, NO_GRAPH)])
def test_command_ends_with_1_and_an_error_when_the_bundle_is_broken(tmp_path, arguments, is_there, message):
    folder = tmp_path / "bundle"
    if is_there:
        damage_missing(make_bundle(folder).folder / "fast.int8.onnx")
    done = run_command(*arguments, folder)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(f"Error: {message.format(folder=folder)}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("is_there", "message"), [(False, NO_BUNDLE), (True, NO_GRAPH)])
def test_verify_ends_with_1_and_a_failed_check_when_the_bundle_is_broken(tmp_path, is_there, message):
    folder = tmp_path / "bundle"
    if is_there:
        damage_missing(make_bundle(folder).folder / "fast.int8.onnx")
    done = run_command("verify", folder)
    assert (done.returncode, done.stderr) == (1, b"")
    assert message.format(folder=folder) in done.stdout.decode()


def test_error_keeps_its_traceback_when_debugging(tmp_path):
    result = invoke_dynbert("--debug", "info", tmp_path)
    assert isinstance(result.exception, dynbert.BundleError)
    done = run_command("--debug", "info", tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr.decode()


@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_warning_is_one_line_on_standard_error(tmp_path, monkeypatch):
    from dynbert import model

    bundle = make_bundle(tmp_path / "bundle", target=Target.VNNI, profiles={FULL: None})
    monkeypatch.setattr(model, "int8_target", lambda: Target.AVX2)
    result = CliRunner().invoke(
        cli.main, ["run", str(bundle.folder), "--text", "the book", "--precision", "int8"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: full.int8.onnx was made for vnni; this CPU, with avx2, may saturate")
    assert len(result.stderr.splitlines()) == 1


def test_verify_ends_with_0_when_all_checks_pass(embedding_bundle):
    result = invoke_dynbert("verify", embedding_bundle.folder)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "All 29 checks passed."
    for graph in embedding_bundle.manifest.graphs:
        assert sum(line.startswith(graph.file) for line in result.output.splitlines()) == 4


def test_verify_ends_with_1_and_every_failure_when_checks_fail(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    damage_changed(bundle.folder / "fast.int8.onnx")
    damage_missing(bundle.folder / "tokenizer.json")
    result = invoke_dynbert("verify", bundle.folder)
    assert result.exit_code == 1
    assert result.output.count("FAILED fast.int8.onnx, contract: ") == 1
    assert result.output.count("FAILED tokenizer.json, contract: ") == 1
    assert result.output.splitlines()[-1] == "2 of 9 checks failed."


def test_output_to_a_closed_pipe_is_no_traceback(embedding_bundle):
    code = "from dynbert.cli import main; main()"
    command = [sys.executable, "-c", code, "info", str(embedding_bundle.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        stderr = process.stderr.read().decode()
        process.wait(60)
    assert "Traceback" not in stderr
