"""The memory benchmark measures what it says, at a size that takes seconds."""

import pytest

from benchmarks.memory import BUDGETS, MEASURES, main, measured
from benchmarks.runtime.measures import Size


@pytest.mark.parametrize("measure", MEASURES)
def test_a_call_is_timed_and_its_budget_told(measure):
    found = {budget: measured(measure, budget, Size(4, 6)) for budget in BUDGETS}
    assert found["four times"]["allowed"] == 4 * found["least"]["allowed"] > 0
    assert found["none"]["allowed"] == 0
    assert all(one["seconds"] > 0 for one in found.values())


def test_one_line_for_each_measure_and_budget(capsys):
    main(["--tasks", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("20 variables, 3 tasks of 110 rows")
    assert len(lines) == 1 + len(MEASURES) * len(BUDGETS)
    assert sum("budget   any MiB" in line for line in lines) == len(MEASURES)
