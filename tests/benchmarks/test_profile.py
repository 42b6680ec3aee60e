"""What is profiled runs, and its table says where the time went."""

import pytest

from benchmarks import profile
from benchmarks.runtime.measures import Size


@pytest.mark.parametrize("measure", list(profile.MEASURES))
def test_a_table_of_operations(measure):
    run = profile.MEASURES[measure](Size(4, 3))
    text = profile.report(run, runs=1, rows=5)
    assert "aten::" in text
    assert "a run: " in text
    assert "numbers read back" in text
