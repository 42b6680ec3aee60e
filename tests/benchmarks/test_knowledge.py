"""Told and untold fits are compared seed by seed, on tasks of which neither was told anything."""

import pandas as pd
import pytest

from benchmarks import knowledge
from pyro_metacadi.inference.evidence import Sampling


def line(fit, seed, score):
    return {"fit": fit, "seed": seed, **dict.fromkeys(knowledge.SCORES, score)}


def test_gains_are_paired_by_seed():
    lines = [line("untold", seed, score) for seed, score in enumerate([0.1, 0.5, 0.9])]
    lines += [line("told", seed, score) for seed, score in enumerate([0.3, 0.6, 0.9])]
    table = knowledge.gains(pd.DataFrame(lines)).set_index("score")
    assert list(table.index) == list(knowledge.SCORES)
    found = table.loc["edge_ap"]
    assert found["gain"] == pytest.approx(0.1)
    assert found["better"] == "2 of 3"
    assert 0.05 < found["p_t"] < 0.2


def test_where_nothing_differs_nothing_is_gained():
    lines = [line(fit, seed, 0.5) for fit in ("told", "untold") for seed in range(3)]
    table = knowledge.gains(pd.DataFrame(lines))
    assert (table[["p_t", "p_wilcoxon"]] == 1).all(axis=None)


def test_a_short_run_has_all_scores(monkeypatch):
    monkeypatch.setattr(knowledge, "SIZES", {"num_variables": 4, "num_tasks": 6})
    monkeypatch.setattr(knowledge, "SAMPLING", Sampling(20, 5, 1))
    untold, told = knowledge.run(1, rows=8)
    assert (untold["fit"], told["fit"]) == ("untold", "told")
    for one in (untold, told):
        assert all(0 <= one[score] <= 1 for score in knowledge.SCORES)
