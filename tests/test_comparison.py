"""Models compared by what they predict of tasks left out."""

import numpy as np
import pytest

from pyro_metacadi import MetaCaDI
from pyro_metacadi.comparison import compare, left_out_scores
from pyro_metacadi.errors import ConfigError, DataError
from pyro_metacadi.inference.arviz_tables import COMPARED, compared
from pyro_metacadi.inference.evidence import Sampling
from tests.helpers import evidence_estimator, fitted, tiny_estimator, tiny_tasks, tiny_world

FAST = {"folds": 2, "support_size": 5, "num_steps": 4, "progress": False}


def graphs(world):
    truth = world.adjacency
    return {
        "empty": evidence_estimator(graph_prior=np.zeros_like(truth)),
        "true": evidence_estimator(graph_prior=truth),
    }


def test_the_model_that_predicts_better_comes_first_and_by_how_much():
    world = tiny_world()
    table = compare(graphs(world), world.tasks, **FAST)
    assert list(table.index) == ["true", "empty"]
    assert list(table.columns) == COMPARED
    scores = left_out_scores(graphs(world), world.tasks, **FAST)
    difference = scores["true"] - scores["empty"]
    assert len(difference) == len(world.tasks)
    assert table["elpd"].tolist() == pytest.approx([scores[name].sum() for name in table.index])
    assert table.loc["empty", "elpd_diff"] == pytest.approx(difference.sum())
    assert table.loc["empty", "dse"] == pytest.approx(
        np.sqrt(len(difference) * difference.var()), rel=1e-6
    )
    assert table.loc["true", ["elpd_diff", "dse"]].tolist() == [0, 0]


def test_a_model_against_itself_is_as_good():
    models = {name: tiny_estimator() for name in ("one", "other")}
    table = compare(models, tiny_tasks(), **FAST)
    assert table["elpd_diff"].tolist() == [0, 0]
    assert table["weight"].tolist() == pytest.approx([0.5, 0.5])


def test_models_stay_as_they_are():
    model = fitted()
    before = model._fit
    compare({"a": model, "b": tiny_estimator(target_prior=0.3)}, tiny_tasks(), **FAST)
    assert model._fit is before


def test_scores_that_no_float_could_exponentiate_are_compared():
    generator = np.random.default_rng(0)
    worse = -5000 + generator.normal(size=40)
    table = compared({"worse": worse, "better": worse + 3 + generator.normal(size=40)})
    assert list(table.index) == ["better", "worse"]
    assert table["weight"].sum() == pytest.approx(1)
    assert np.isfinite(table).all(axis=None)


@pytest.mark.parametrize(
    ("models", "got"),
    [
        ({}, r"\[\]"),
        ({"a": MetaCaDI()}, r"\['a'\]"),
        ([MetaCaDI()], "list"),
        ({"a": 1, "b": 2}, "a"),
    ],
)
def test_what_is_not_two_models_is_refused(models, got):
    with pytest.raises(ConfigError, match=rf"models: expected two or more.*{got}"):
        compare(models, tiny_tasks(), **FAST)


def test_one_task_cannot_be_left_out():
    models = {"a": tiny_estimator(), "b": tiny_estimator()}
    with pytest.raises(DataError, match="expected two or more that have two rows or more, got 1"):
        compare(models, tiny_tasks(rows=(9,)), **FAST)


def test_models_that_are_told_more_do_not_compare():
    models = {kind: MetaCaDI(sampling=Sampling(representation=kind)) for kind in ("counts", "log")}
    tasks = tiny_world().tasks
    counts = type(tasks).from_arrays(
        [np.ceil(np.exp(3 + rows.clip(-2, 2))) for rows in tasks.arrays]
    )
    with pytest.raises(ConfigError, match="expected 'counts' alone or not at all"):
        compare(models, counts, **FAST)
    models = {"counts": MetaCaDI(), "as they are": tiny_estimator()}
    with pytest.raises(ConfigError, match="expected 'counts' alone or not at all"):
        compare(models, counts, **FAST)
