"""The search for the fewest products to put back always ends, with a number that held."""

from __future__ import annotations

import pytest

from dynbert_export.gates.recovery import find_fewest


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8, 18])
def test_find_fewest_finds_the_fewest_within_the_limit(most):
    for needed in range(1, most + 4):
        asked = []

        def holds(count, needed=needed, asked=asked):
            asked.append(count)
            return count >= needed

        found = find_fewest(holds, most=most)
        assert found == (needed if needed <= most else None)
        assert max(asked) <= most
        assert min(asked) >= 1
        assert len(asked) == len(set(asked)) <= 2 * most.bit_length() + 1


def test_find_fewest_asks_nothing_where_nothing_is_allowed():
    assert find_fewest(lambda count: pytest.fail(f"asked {count}"), most=0) is None


def test_find_fewest_ends_with_a_number_that_held_even_where_more_may_hold_less():
    answers = {1: False, 2: False, 4: True, 3: False}
    assert find_fewest(answers.__getitem__, most=4) == 4
