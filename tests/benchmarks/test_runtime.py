"""Runtimes: growth is read off what was measured, and what took too long is said to be a guess."""

import json
import time

import numpy as np
import pandas as pd
import pytest

from benchmarks import processes
from benchmarks.runtime import cells, clock
from benchmarks.runtime.cells import COLUMNS, Cell, append, plan, read, run, run_here
from benchmarks.runtime.floors import scoring_floor, step_floor
from benchmarks.runtime.report import draw_figure, exponent, extrapolated, printed


def table(**columns):
    rows = pd.DataFrame(columns)
    rows["measure"], rows["device"], rows["threads"] = "svi_step", "cpu", 1
    return rows.reindex(columns=list(COLUMNS))


LINES = table(
    num_variables=[10, 20, 50, 100], num_tasks=[20] * 4, seconds=[2.0, 8.0, 50.0, np.nan],
    floor=[1.0, 4.0, 25.0, np.nan], megabytes=[300.0, 310.0, 400.0, np.nan],
    note=[np.nan, "edge AP 1", np.nan, "more than 60 s"],
)  # fmt: skip


def test_growth_is_the_slope_of_logarithms_at_the_largest_sizes():
    known = LINES.dropna(subset=["seconds"])
    assert exponent(known["num_variables"], known["seconds"]) == pytest.approx(2)
    early = pd.concat([known, table(num_variables=[1], num_tasks=[20], seconds=[9.0])])
    assert exponent(early["num_variables"], early["seconds"]) == pytest.approx(2)
    assert np.isnan(exponent(known["num_variables"][:1], known["seconds"][:1]))


def test_what_was_not_measured_is_extrapolated_and_in_parentheses():
    guesses = extrapolated(LINES, "num_variables")
    assert guesses.tolist() == pytest.approx([2.0, 8.0, 50.0, 200.0])
    text = printed(LINES)
    assert "d = 1000" in text  # not tried, but guessed
    assert "(2e+04 s)" in text
    assert "svi_step, cpu, 1 thread, along d: ~ d^2.00" in text
    assert "(200 s)" in text
    assert "(50 s)" not in text
    assert "2.0 x floor" in text
    assert "more than 60 s" in text
    assert len(draw_figure(LINES).axes) == 2


def test_nothing_measured_is_no_guess():
    nothing = LINES.assign(seconds=np.nan)
    assert extrapolated(nothing, "num_variables").isna().all()
    assert "(?)" in printed(nothing)


def test_both_axes_are_planned_once_and_devices_have_one_thread():
    planned = plan(["fit"], ["cpu", "cuda"], [1, 2])
    assert len(planned) == len(set(planned)) == 3 * 10
    assert {cell.threads for cell in planned if cell.device == "cuda"} == {1}
    small, large = Cell("fit", 10, 20, "cpu", 1), Cell("fit", 1000, 20, "cpu", 1)
    assert small.line == large.line != Cell("fit", 20, 200, "cpu", 1).line
    assert Cell("fit", 20, 20, "cpu", 2) in planned


def test_the_time_is_the_median_of_calls_within_the_budget():
    calls = []
    taken = clock.seconds(lambda: calls.append(time.sleep(0.01)), budget=0.1)
    assert 0.01 <= taken < 0.05
    assert 4 <= len(calls) <= 12
    calls.clear()
    assert clock.seconds(lambda: calls.append(time.sleep(0.05)), budget=0.06) >= 0.05
    assert len(calls) == 1
    assert clock.peak_megabytes() > 50


def test_floors_run_at_the_sizes_given():
    import torch

    cpu = torch.device("cpu")
    sizes = {"num_sets": 2, "num_tasks": 3, "num_samples": 5, "num_inputs": 2, "num_features": 4}
    assert scoring_floor(**sizes, device=cpu)().shape == (2, 15, 1)
    step = step_floor(
        num_variables=3, num_tasks=2, support=4, query=5, hsic_rows=4, width=6,
        num_parameters=10, device=cpu,
    )  # fmt: skip
    step()


class Done:
    returncode, stderr = 0, ""
    stdout = "a warning\n" + json.dumps({"seconds": 1.5, "floor": None, "note": "", "megabytes": 9})


def test_a_cell_is_a_process_and_its_row_says_what_became_of_it(tmp_path, monkeypatch):
    path, outcomes = tmp_path / "new" / "runtime.csv", iter([Done, "more than 5 s", "failed: no"])

    def apart(module, arguments, *, limit, threads):
        assert (module, limit, threads) == ("benchmarks.runtime", 5, 1)
        outcome = next(outcomes)
        if isinstance(outcome, str):
            raise processes.Failed(outcome)
        return json.loads(outcome.stdout.splitlines()[-1])

    monkeypatch.setattr(cells, "apart", apart)
    for size in (20, 50, 100):
        append(path, run(Cell("fit", size, 20, "cpu", 1), limit=5))
    rows = read(path)
    assert rows["seconds"].tolist()[:1] == [1.5]
    assert rows["seconds"].isna().tolist() == [False, True, True]
    assert rows["note"].tolist()[1:] == ["more than 5 s", "failed: no"]
    assert (rows["machine"].str.len() > 5).all()


def test_a_measure_runs_where_it_is():
    cell = json.dumps(vars(Cell("1000 scores", 5, 2, "cpu", 1)))
    found = json.loads(run_here(cell, limit=1.0))
    assert found["seconds"] > 0
    assert found["floor"] > 0
    assert found["megabytes"] > 50
