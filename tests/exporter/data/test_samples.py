"""Choosing samples: by the seed, in their order."""

from __future__ import annotations

from dynbert_export.data.samples import Sample, choose_samples


def test_choose_samples_is_decided_by_the_seed_and_keeps_the_order():
    samples = [Sample(str(index)) for index in range(100)]
    chosen = choose_samples(samples, 10, seed=1)
    assert chosen == choose_samples(samples, 10, seed=1)
    assert chosen != choose_samples(samples, 10, seed=2)
    assert len(set(chosen)) == 10
    assert list(chosen) == sorted(chosen, key=samples.index)
    assert choose_samples(samples, 100, seed=1) == choose_samples(samples, 1000, seed=1) == tuple(samples)
