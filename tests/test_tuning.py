from functools import partial

import numpy as np
import pytest

from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIError, MetaCaDIWarning
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.objective import PaperObjective
from pyro_metacadi.left_out import row_scores
from pyro_metacadi.tuning import GRIDS, estimator_with, tune
from tests.helpers import TINY, evidence_fit, fitted, tiny_tasks, tiny_world

FAST = {"sampling": Sampling(20, 10, 1, "identity"), "progress": False, "folds": 2}


def tune_svi(tasks=None, grid=None, **options):
    grid = {"target_weight": [0.0005, 0.5], "graph_weight": [0.0, 0.1]} if grid is None else grid
    settings = {"engine": "svi", "folds": 2, "support_size": 3, "progress": False, **TINY}
    return tune(tiny_tasks() if tasks is None else tasks, grid, **{**settings, **options})


def test_every_combination_is_scored_and_the_best_comes_first():
    table = tune_svi()
    assert list(table) == ["target_weight", "graph_weight", "score", "se", "behind", "behind_se"]
    pairs = set(zip(table["target_weight"], table["graph_weight"], strict=True))
    assert pairs == {(0.0005, 0.0), (0.0005, 0.1), (0.5, 0.0), (0.5, 0.1)}
    assert table["score"].is_monotonic_decreasing
    np.testing.assert_allclose(table["behind"], table["score"][0] - table["score"])
    assert table.loc[0, ["behind", "behind_se"]].tolist() == [0, 0]
    assert np.isfinite(table).all(axis=None)


def test_the_same_seed_gives_the_same_table():
    assert tune_svi(seed=1).equals(tune_svi(seed=1))
    assert not tune_svi(seed=1).equals(tune_svi(seed=2))


def test_scores_are_of_the_tasks_that_the_model_has_not_seen(monkeypatch):
    calls = []

    def spy(model, query, *, support, **_):
        calls.append((model._fit.tasks, support, query))
        return [np.zeros(n) for n in query.num_rows]

    monkeypatch.setattr("pyro_metacadi.left_out.row_scores", spy)
    tasks = TaskDataset.from_arrays(np.arange(6 * 7 * 2.0).reshape(6, 7, 2))
    tasks = tasks.concatenate(TaskDataset.from_arrays([[[1e3, 0.0], [2e3, 1.0]]], tasks=["small"]))
    tune_svi(tasks, {"graph_weight": [0.1]}, folds=3, num_steps=1)
    assert len(calls) == 3
    assert sorted(name for *_, query in calls for name in query.tasks) == sorted(tasks.tasks)
    for training, support, query in calls:
        assert set(training.tasks) | set(query.tasks) == set(tasks.tasks)
        assert not set(training.tasks) & set(query.tasks)
        assert support.tasks == query.tasks
        for name, seen, asked in zip(query.tasks, support.arrays, query.arrays, strict=True):
            assert len(seen) == (1 if name == "small" else 3)
            both = np.concatenate([seen, asked])
            assert sorted(both[:, 0]) == sorted(tasks[name].values[:, 0])


def test_tasks_of_one_row_are_learned_from_but_not_scored():
    tasks = tiny_tasks(rows=(12, 9, 1, 7))
    with pytest.warns(MetaCaDIWarning, match=r"rows: expected two or more in each task"):
        table = tune_svi(tasks, {"graph_weight": [0.1]})
    assert np.isfinite(table["score"]).all()


def test_the_true_graph_predicts_tasks_left_out_better_than_none():
    world = tiny_world()
    truth, empty = world.adjacency.tolist(), np.zeros_like(world.adjacency).tolist()
    table = tune(world.tasks, {"graph_prior": [empty, truth]}, **FAST)
    assert table["graph_prior"][0] == truth
    assert table["behind"][1] > 2 * table["behind_se"][1]


@pytest.mark.filterwarnings("ignore:targets. expected few")  # tasks of the wrong shape look hit
def test_representations_are_compared_in_the_users_units():
    normal = np.random.default_rng(0).normal(size=(6, 40, 2))
    normal[0, :, 0] += 3
    tasks = TaskDataset.from_arrays(np.exp(normal))
    grid = {"representation": ["identity", "sqrt", "log"]}
    table = tune(tasks, grid, **FAST)
    assert table["representation"].tolist() == ["log", "sqrt", "identity"]
    # Units change all scores alike.
    larger = TaskDataset.from_arrays(100 * np.exp(normal))
    scaled = tune(larger, grid, **FAST)
    np.testing.assert_allclose(scaled["score"], table["score"] - 2 * np.log(100), atol=0.02)


@pytest.mark.parametrize("model", [fitted, evidence_fit], ids=["svi", "evidence"])
def test_row_scores_follow_tasks_and_names(model):
    d = len(model().variables)
    support, query = (tiny_tasks(rows=rows, num_variables=d, seed=9) for rows in ((3, 2), (4, 5)))
    scores = row_scores(model(), query, support=support, num_graphs=5)
    assert [len(part) for part in scores] == [4, 5]
    names = list(reversed(query.variables))
    again = row_scores(model(), query.select(names), support=support.select(names), num_graphs=5)
    np.testing.assert_allclose(np.concatenate(again), np.concatenate(scores), rtol=1e-5)


def test_row_scores_of_other_tasks_or_without_a_fit_are_refused():
    tasks = tiny_tasks(rows=(3, 2))
    with pytest.raises(DataError, match=r"support: expected the tasks of the query rows, task1"):
        row_scores(fitted(), tasks, support=tasks[:1])
    with pytest.raises(MetaCaDIError, match="expected a fitted model"):
        row_scores(MetaCaDI(), tasks, support=tasks)


def test_settings_become_a_model():
    model = estimator_with("svi", {"target_weight": 0.5, "target_prior": 0.2})
    assert model.components.target_prior == 0.2
    assert model.components.objective.keywords == {"target_weight": 0.5}
    own = partial(PaperObjective, residual_rows=8)
    model = estimator_with("svi", {"target_weight": 0.5}, objective=own)
    assert model.components.objective.keywords == {"residual_rows": 8, "target_weight": 0.5}
    sampling = Sampling(num_draws=7)
    model = estimator_with("evidence", {"representation": "log"}, sampling=sampling)
    assert model.components.sampling == Sampling(num_draws=7, representation="log")


@pytest.mark.parametrize("engine", GRIDS)
def test_what_is_tried_by_default_are_options_of_the_engine(engine):
    for name, values in GRIDS[engine].items():
        for value in values:
            estimator_with(engine, {name: value})


COUNTS = TaskDataset.from_arrays(np.random.default_rng(0).poisson(20, size=(4, 12, 3)))


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ({}, {}, r"grid: expected option names with lists of values, got {}. Try"),
        ([0.1], {}, r"grid: expected option names .* got \[0.1\]"),
        ({"graph_prior": 0.1}, {}, r"grid: expected a list of values of graph_prior, got 0.1"),
        ({"graph_prior": []}, {}, r"grid: expected a list of values of graph_prior, got \[\]"),
        ({"representation": "log"}, {}, r"grid: expected a list .* got 'log'. Put a single"),
        ({"target_weight": [1]}, {}, r"grid: expected some of graph_prior, .* got 'target_weight'"),
        ({"graph_prior": [1.5]}, {}, r"graph_prior: expected probabilities, got 1.5"),
        ({"target_prior": ["a"]}, {}, r"target_prior: expected a probability .* got 'a'"),
        ({"representation": ["cube"]}, {}, r"representation: expected 'auto' or one of"),
        ({"graph_weight": ["a"]}, {"engine": "svi"}, r"grid: expected numbers .* got 'a'"),
        ({"graph_weight": [-1]}, {"engine": "svi"}, r"grid: expected numbers .* got -1"),
        ({"graph_prior": [0.1]}, {"engine": "svi"}, r"grid: expected some of target_weight"),
        (None, {"engine": "magic"}, r"engine: expected 'evidence' or 'svi', got 'magic'"),
        (None, {"folds": 1}, r"folds: expected at least 2, got 1"),
        (None, {"folds": 2.5}, r"folds: expected a whole number, got 2.5"),
        (None, {"support_size": 0}, r"support_size: expected at least 1, got 0"),
        (None, {"seed": -1}, r"seed: expected a whole number from 0"),
        (None, {"bogus": 1}, r"bogus"),
        ({"representation": ["auto", "log"]}, {"tasks": COUNTS}, r"representation: .* 'counts'"),
    ],
)
def test_bad_arguments_are_named_before_the_work(grid, options, message):
    arguments = {"tasks": tiny_tasks(), "progress": False, **options}
    expected = TypeError if "bogus" in options else ConfigError
    with pytest.raises(expected, match=message):
        tune(grid=grid, **arguments)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([np.ones((3, 3))], r"tasks: expected a TaskDataset, got list"),
        (tiny_tasks(rows=(9,)), r"tasks: expected two or more that have two rows or more, got 1"),
        (tiny_tasks(rows=(9, 1, 1)), r"two rows or more, got 1. Add tasks to leave out, or join"),
    ],
)
def test_tasks_that_cannot_be_left_out_are_refused(tasks, message):
    with pytest.raises(DataError, match=message):
        tune(tasks, progress=False)
