"""Candidates: what they keep, where they cut, and which of them are one and the same for some inputs."""

from __future__ import annotations

import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.graph.freeze import GraphSpec, _find_drops
from dynbert_export.searching.candidate import Body, Candidate, resolve_key

_BODY = Body(num_layers=3, cutting_layers=3, max_length=64, always_keep_cls_token=True)


@pytest.mark.parametrize(
    "lengths",
    [(1.0, 1.0, 1.0), (1.0, 0.5, 0.5), (0.9, 0.9, 0.1), (64, 64, 64), (80, 64, 10), (64, 20, 20), (20, 20, 5)],
)
def test_cuts_are_those_of_the_frozen_graph(lengths):
    config = LengthConfig(lengths)
    spec = GraphSpec(num_layers=3, max_length=64, always_keep_cls_token=True)
    assert list(Candidate(config).find_cuts(_BODY)) == _find_drops(config, range(3), spec)


def test_a_last_layer_for_one_token_cuts_nothing():
    body = Body(num_layers=3, cutting_layers=2, max_length=64, always_keep_cls_token=True)
    candidate = Candidate(LengthConfig((0.5, 0.5, 0.1)))
    assert body.has_single_token_layer
    assert not _BODY.has_single_token_layer
    assert candidate.find_cuts(body) == (True, False)
    assert candidate.resolve(10, body) == (5, 5)


@pytest.mark.parametrize("layers", [(0, 1, 2), (0, 2), (1, 2), (0, 1), (1,)])
def test_cuts_without_some_layers_are_those_of_the_frozen_graph(layers):
    config = LengthConfig((0.9, 0.5, 0.5))
    spec = GraphSpec(num_layers=3, max_length=64, always_keep_cls_token=True, layers=layers)
    candidate = Candidate(config, layers)
    assert list(candidate.find_cuts(_BODY)) == _find_drops(config, layers, spec)
    assert candidate.resolve(10, _BODY) == tuple((9, 5, 5)[layer] for layer in layers)


def test_whichever_layer_runs_last_does_so_for_one_token_where_the_models_last_does():
    body = Body(num_layers=3, cutting_layers=2, max_length=64, always_keep_cls_token=True)
    lengths = LengthConfig((0.9, 0.5, 0.5))
    assert Candidate(lengths, (0, 1)).list_cutting(body) == (0,)
    assert Candidate(lengths, (0, 1)).resolve(10, body) == (9,)
    assert Candidate(lengths, (2,)).find_cuts(body) == ()


def test_candidates_that_keep_the_same_have_one_key():
    half, nearly = Candidate(LengthConfig((0.5, 0.5, 0.5))), Candidate(LengthConfig((0.501, 0.5, 0.5)))
    counts = Candidate(LengthConfig((10, 10, 10)))
    assert resolve_key(half, [19, 9], _BODY) == resolve_key(nearly, [9, 19, 9], _BODY)
    assert resolve_key(half, [20], _BODY) != resolve_key(nearly, [20], _BODY)  # 10 tokens and 11
    assert resolve_key(half, [20], _BODY) == resolve_key(counts, [20], _BODY)
    assert resolve_key(half, [20, 40], _BODY) != resolve_key(counts, [20, 40], _BODY)


def test_layers_are_part_of_what_a_candidate_is():
    lengths = LengthConfig((0.5, 0.5, 0.5))
    some = Candidate(lengths, layers=(0, 2))
    assert str(some) == "0.5,0.5,0.5 in layers 0,2"
    assert resolve_key(some, [20], _BODY) != resolve_key(Candidate(lengths), [20], _BODY)
