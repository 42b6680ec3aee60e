"""Rows that judge: every run is kept once, failures are tried again, figures are what they say."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from benchmarks.accuracy import __main__, ceilings, methods, report, runs, worlds
from pyro_metacadi import simulators
from pyro_metacadi.inference.training import Training

TINY = {"num_variables": 3, "num_tasks": 3, "num_samples": 12}


@pytest.fixture
def tiny(monkeypatch):
    """Small worlds only; whatever was drawn before is forgotten."""
    monkeypatch.setattr(worlds, "SIZES", TINY)
    genes = worlds.Kind(
        "tiny genes",
        lambda seed: simulators.sergio(**TINY, num_cell_types=2, seed=seed),
        ceiling="simulated",
    )
    kinds = {
        "gp": worlds.Kind("tiny", worlds.KINDS["gp"].draw, goals={"intv_ap": ">= .87"}),
        "genes": genes,
        "observational": worlds.KINDS["observational"],
    }
    for module in (worlds, runs, report, __main__):
        monkeypatch.setattr(module, "KINDS", kinds)
    worlds.draw_problem.cache_clear()
    yield
    worlds.draw_problem.cache_clear()


def accuracy(path, *arguments):
    __main__.main(["--out", str(path), "--jobs", "1", "--seeds", "0:2", *arguments])


def replace_method(monkeypatch, name, fit, **options):
    monkeypatch.setitem(methods.METHODS, name, methods.Method(fit, **options))


@pytest.mark.usefixtures("tiny")
def test_a_run_is_a_row_and_the_table_and_the_figure_follow(tmp_path, capsys):
    path = tmp_path / "new" / "accuracy.csv"
    accuracy(path, "--worlds", "gp,observational", "--methods", "chance,mean_shift,ceiling")
    table = runs.read(path).set_index(["world", "seed", "method"])
    assert len(table) == 2 * 2 * 3
    chance, shift = table.loc[("gp", 0, "chance")], table.loc[("gp", 0, "mean_shift")]
    assert chance["intv_ap"] == pytest.approx(1 / 3)
    assert chance["mean_target"] == pytest.approx(1 / 3, rel=1e-5)
    assert np.isnan(shift["mean_target"])  # a z-score is no probability
    assert table["edge_ap"].isna().all()
    nobody = table.loc[("observational", 1, "ceiling")]
    assert np.isnan(nobody["intv_ap"])
    assert 0 < nobody["mean_target"] < 0.5
    assert path.with_suffix(".png").stat().st_size > 1000
    assert "goal of metacadi  >= .87" in capsys.readouterr().out


@pytest.mark.usefixtures("tiny")
def test_runs_that_are_there_are_skipped(tmp_path, monkeypatch):
    path, drawn = tmp_path / "accuracy.csv", []

    def chance(problem):
        drawn.append(problem.seed)
        return methods.chance(problem)

    replace_method(monkeypatch, "chance", chance)
    accuracy(path, "--worlds", "gp", "--methods", "chance")
    before = path.read_text()
    accuracy(path, "--worlds", "gp", "--methods", "chance")
    assert path.read_text() == before
    assert drawn == [0, 1]


@pytest.mark.usefixtures("tiny")
def test_a_failed_run_is_recorded_without_scores_and_run_again(tmp_path, monkeypatch, capsys):
    path = tmp_path / "accuracy.csv"

    def fail(problem):
        raise RuntimeError("no\nluck, today")

    replace_method(monkeypatch, "chance", fail)
    accuracy(path, "--worlds", "gp", "--methods", "chance,ceiling")
    failed = runs.read(path).query("method == 'chance'")
    assert failed["error"].tolist() == ["RuntimeError: no luck, today"] * 2
    assert failed[list(runs.SCORES)].isna().all(axis=None)
    assert "0 + 2 failed" in capsys.readouterr().out
    monkeypatch.setitem(methods.METHODS, "chance", methods.Method(methods.chance))
    accuracy(path, "--worlds", "gp", "--methods", "chance,ceiling")
    table = runs.read(path)
    assert len(table) == 4
    assert (table["error"] == "").all()
    assert len(path.read_text().splitlines()) == 1 + 6  # nothing is overwritten
    assert "failed" not in capsys.readouterr().out


@pytest.mark.usefixtures("tiny")
def test_a_model_is_scored_on_edges_too(tmp_path, monkeypatch):
    one_step = partial(methods.MetaCaDI.paper, training=Training(num_steps=1, patience=None))
    replace_method(monkeypatch, "paper", partial(methods.model, build=one_step), edges=True)
    row = runs.run_cell(runs.Cell("gp", 0, "paper"))
    assert row["error"] == ""
    assert set(runs.SCORES) <= set(row)
    assert row["num_threads"] == 1


def test_methods_run_where_they_can_and_on_as_many_seeds_as_they_should():
    cells = runs.plan(["gp", "sergio_ko"], ["paper", "ceiling", "simulation_bound"], range(7))
    pairs = [(cell.world, cell.method) for cell in cells]
    assert pairs.count(("gp", "paper")) == pairs.count(("sergio_ko", "paper")) == 5
    assert pairs.count(("gp", "ceiling")) == pairs.count(("sergio_ko", "simulation_bound")) == 7
    assert ("gp", "simulation_bound") not in pairs
    assert ("sergio_ko", "ceiling") not in pairs


def test_a_file_of_other_columns_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("world,seed\ngp,0\n")
    with pytest.raises(ValueError, match=r"expected the columns world, seed, method, .* --out"):
        runs.read(path)


def test_the_table_gives_mean_standard_error_and_number_of_seeds():
    rows = [
        {"world": "gp", "seed": seed, "method": "metacadi", "intv_ap": value, "e_shd": 10 * value}
        for seed, value in enumerate((0.2, 0.4, 0.9))
    ]
    rows.append({"world": "gp", "seed": 3, "method": "metacadi", "error": "failed"})
    table = pd.DataFrame(rows, columns=list(runs.COLUMNS)).fillna({"error": ""})
    figure = report.summary(table).loc[("gp", "metacadi", "intv_ap")]
    assert figure.tolist() == pytest.approx([0.5, np.std([0.2, 0.4, 0.9], ddof=1) / 3**0.5, 3])
    text = report.printed(table)
    assert "0.500 ±0.208" in text
    assert "5.0 ±2.1" in text
    assert "3 + 1 failed" in text
    header, goal, line = text.splitlines()[1:]
    assert header.index("intv_ap") == goal.index(">= .87") == line.index("0.500")


@pytest.mark.parametrize("text", ["5:5", "-1:3"])
def test_no_seeds_are_refused(text):
    with pytest.raises(SystemExit):
        __main__.parse([f"--seeds={text}"])


def test_seeds_and_unknown_names(capsys):
    assert __main__.parse(["--seeds", "3"]).seeds == [3]
    assert __main__.parse([]).seeds == list(range(100, 120))
    with pytest.raises(SystemExit):
        __main__.parse(["--worlds", "gp,gpp"])
    assert "got 'gpp'" in capsys.readouterr().err


def test_the_ceiling_is_the_posterior_over_all_sets_of_targets():
    graph = [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    world = simulators.gp_anm(**TINY, graph=graph, seed=0)
    new = world.sample_tasks(4, 5, seed=0)
    problem = worlds.Problem(worlds.KINDS["gp"], 0, world, new)
    independent, one = (
        known(problem)(new.tasks) for known in (ceilings.ceiling, ceilings.ceiling_counted)
    )
    assert (world.intervention_targets.sum(1) == 1).all()
    for task, rows in enumerate(new.tasks.arrays):
        assert independent[task] == pytest.approx(by_enumeration(world, rows), rel=1e-9)
        assert one[task] == pytest.approx(by_enumeration(world, rows, sizes=[1]), rel=1e-9)


def by_enumeration(world, rows, *, sizes=(0, 1, 2, 3)):
    """Sum over the sets of targets of these sizes, densities written out."""
    system = world.system
    loc = [
        function(torch.tensor(rows[:, parents])).numpy()
        for function, parents in zip(system.functions, ([], [0], [1]), strict=True)
    ]
    weights = np.zeros((8, 3))
    sets = np.array([one for one in np.ndindex(2, 2, 2) if sum(one) in sizes])
    weights = weights[: len(sets)]
    for weight, hit in zip(weights, sets, strict=True):
        prior = np.prod(np.where(hit, 1 / 3, 2 / 3))
        log = [
            norm(0, 1).logpdf(rows[:, i]).sum()
            if hit[i]
            else norm(loc[i], float(system.noise_scale[i])).logpdf(rows[:, i]).sum()
            for i in range(3)
        ]
        weight[:] = prior * np.exp(sum(log))
    return (weights * sets).sum(0) / weights.sum(0)


@pytest.mark.usefixtures("tiny")
def test_the_simulation_bound_finds_genes_that_were_knocked_out(monkeypatch):
    monkeypatch.setattr(ceilings, "NUM_FRESH_TASKS", 40)
    monkeypatch.setattr(ceilings, "NUM_STEPS", 60)
    row = runs.run_cell(runs.Cell("genes", 0, "simulation_bound"))
    assert row["error"] == ""
    assert float(row["intv_ap"]) > 0.9
    assert float(row["mean_target"]) == pytest.approx(1 / 3, rel=1e-5)
