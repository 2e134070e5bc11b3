"""The graphs of an export."""

from __future__ import annotations

import pytest

from dynbert_export.variants import anytime_configs


@pytest.mark.parametrize("num_layers", [1, 2, 6, 12])
def test_anytime_configs_drop_nothing_and_much(num_layers):
    nothing, much = anytime_configs(num_layers)
    assert nothing.resolve(64, always_keep_cls_token=True) == (64,) * num_layers
    assert len(much.lengths) == num_layers
    assert much.resolve(64, always_keep_cls_token=True)[-1] == 16
