"""The bundle's card: how to call it, and its table."""

from __future__ import annotations

import msgspec
import pytest

from dynbert.manifest import ANYTIME, FULL, Embeddings, Latency, Precision, Task
from dynbert_export.report.card import write_card
from tests.helpers.bundles import make_bundle


def _latency(median_ms):
    return (Latency(tokens=16, batch=1, threads=1, median_ms=median_ms),)


def test_card_of_a_regression_says_closeness(manifest):
    graphs = tuple(
        msgspec.structs.replace(
            graph, quality=graph.quality and msgspec.structs.replace(graph.quality, metric="closeness")
        )
        for graph in manifest.graphs
    )
    card = write_card(msgspec.structs.replace(manifest, graphs=graphs))
    assert "agreement is the closeness with the fp32 graph that drops nothing." in card


@pytest.mark.parametrize(
    ("task", "call"),
    [
        (Task.FEATURE_EXTRACTION, "model.encode(["),
        (Task.TEXT_CLASSIFICATION, 'model("A text.", profile="full")'),
        (Task.QUESTION_ANSWERING, "model(question="),
    ],
)
def test_card_shows_how_to_call_the_bundle(tmp_path, task, call):
    card = write_card(make_bundle(tmp_path / "toy", task=task).manifest)
    assert card.startswith("# toy/bert\n")
    assert call in card
    assert 'profile="full"' in card
    assert f"for {task.value}, at most 16 tokens" in card


@pytest.mark.parametrize(
    ("task", "call"),
    [
        (Task.TOKEN_CLASSIFICATION, 'model("A text.", profile="full")'),
        (Task.FILL_MASK, 'model("Paris is the <mask> of France.", profile="full")'),
        (Task.NEXT_SENTENCE_PREDICTION, 'model("First.", text_pair="Second.", profile="full")'),
        (Task.MULTIPLE_CHOICE, 'model("A question?", choices=["a", "b"], profile="full")'),
        (Task.PRETRAINING, 'model("Paris is the <mask> of France.", text_pair='),
    ],
)
def test_card_shows_how_to_call_every_task(manifest, task, call):
    model = msgspec.structs.replace(manifest.model, task=task, embeddings=None)
    card = write_card(msgspec.structs.replace(manifest, model=model), mask_token="<mask>")  # noqa: S106  (no password)
    assert call in card
    assert f"for {task.value}, at most" in card


@pytest.mark.parametrize(
    ("embeddings", "expected"),
    [
        (Embeddings.POOLED, "Its graphs give `sentence_embedding`, one vector a text (mean, normalised)"),
        (
            Embeddings.TOKEN_STATES,
            "Its graphs give `last_hidden_state`, one vector a token; dynbert pools them (mean, norm",
        ),
    ],
)
def test_card_says_what_the_graphs_of_an_embedder_give(tmp_path, embeddings, expected):
    assert expected in write_card(make_bundle(tmp_path / "toy", embeddings=embeddings).manifest)
    assert "Its graphs give" not in write_card(make_bundle(tmp_path / "other", task=Task.FILL_MASK).manifest)


def test_card_table_has_every_graph(manifest):
    card = write_card(manifest)
    table = [line.split("|")[1:-1] for line in card.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in row] for row in table]
    assert len({len(row) for row in (header, *rows)}) == 1
    assert [row[3] for row in rows] == [f"`{graph.file}`" for graph in manifest.graphs]
    assert header[4] == "ms at 16"
    assert [row[4] for row in rows] == [f"{graph.latency[0].median_ms:.2f}" for graph in manifest.graphs]
    assert "the cosine with the fp32 graph" in card
    assert "dynbert 0.1.0" in card


def test_card_names_the_products_that_stay_fp32(manifest):
    assert "in fp32, because" not in write_card(manifest)
    graphs = tuple(
        msgspec.structs.replace(graph, fp32_products=("encoder.b", "encoder.a")) for graph in manifest.graphs
    )
    card = write_card(msgspec.structs.replace(manifest, graphs=graphs))
    assert "INT8 graphs compute these in fp32, because answers" in card
    assert "\n- `encoder.a`\n- `encoder.b`\n" in card


def test_card_calls_the_full_profile_when_there_is_no_other(tmp_path):
    manifest = make_bundle(tmp_path / "toy", profiles={FULL: None, ANYTIME: None}).manifest
    assert 'profile="full"' in write_card(manifest)


@pytest.mark.parametrize(
    ("times", "example"),
    [({"full": 9.0, "fast": 4.0}, "fast"), ({"full": 9.0, "fast": 9.0}, "full"), ({"full": 9.0, "fast": 9.5}, "full")],
)
def test_card_shows_the_profile_that_gains_most(manifest, times, example):
    graphs = tuple(
        msgspec.structs.replace(graph, latency=_latency(times.get(graph.profile, 1.0))) for graph in manifest.graphs
    )
    card = write_card(msgspec.structs.replace(manifest, graphs=graphs))
    assert f'profile="{example}"' in card


def test_card_shows_no_profile_that_is_faster_in_one_precision_alone(manifest):
    times = {("fast", Precision.INT8): 9.5, ("fast", Precision.FP32): 4.0}
    graphs = tuple(
        msgspec.structs.replace(graph, latency=_latency(times.get((graph.profile, graph.precision), 9.0)))
        for graph in manifest.graphs
    )
    assert {(graph.profile, graph.precision) for graph in graphs} > set(times)
    assert 'profile="full"' in write_card(msgspec.structs.replace(manifest, graphs=graphs))


def test_card_says_which_layers_run_where_some_are_left_out(manifest, tmp_path):
    assert "| layers |" not in write_card(manifest)
    bundle = make_bundle(tmp_path / "other", profiles={FULL: None, "fast": (0.5, 0.25)}, layers={"fast": (1,)})
    table = [line.split("|")[1:-1] for line in write_card(bundle.manifest).splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in row] for row in table]
    assert header[2:5] == ["lengths", "layers", "file"]
    assert {len(row) for row in rows} == {len(header)}
    assert {(row[0], row[2], row[3]) for row in rows} == {(FULL, "all", "all"), ("fast", "0.5,0.25", "1")}
