"""A report that nobody found, for the tests of what is made of one."""

from __future__ import annotations

import pytest

from tests.helpers.searching import make_report


@pytest.fixture
def report():
    return make_report()
