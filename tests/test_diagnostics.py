"""Diagnostics find what was put there, and say why where they cannot."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from pyro_metacadi import TaskDataset, diagnostics, simulators
from pyro_metacadi.diagnostics import overview
from pyro_metacadi.errors import ConfigError, MetaCaDIError
from pyro_metacadi.inference.evidence_chain import EvidenceChain
from pyro_metacadi.inference.posterior import Posterior
from tests.helpers import evidence_fit, fitted, tiny_tasks, tiny_world
from tests.inference.test_posterior import EmptyGraphs

ENGINES = pytest.mark.parametrize("model", [fitted, evidence_fit], ids=["svi", "evidence"])


def markov_chains(*, shares, num_draws=400):
    """A posterior of Markov chains whose share of graphs with X1 -> X2 is given."""
    rng, library = np.random.default_rng(0), evidence_fit().posterior.chains[0].library
    chains = []
    for share in shares:
        graphs = torch.zeros(num_draws, 4, 4, dtype=torch.int8)
        graphs[:, 0, 1] = torch.tensor(rng.random(num_draws) < share)
        chains.append(EvidenceChain(library, graphs, torch.zeros(num_draws).double()))
    tasks = tiny_world().tasks
    rows = evidence_fit()._fit.scaling.transform(tasks)
    return Posterior(chains, tasks, standardised=rows)


def test_chains_of_one_law_differ_as_sampling_explains():
    found = diagnostics.restarts(markov_chains(shares=[0.4] * 4))
    assert not found["disagree"].any()
    one = found.sel(parent="X1", child="X2")
    assert 0 < one["difference"] < one["by_sampling"] < 0.25
    np.testing.assert_allclose(one["edge_prob"], 0.4, atol=0.1)


def test_the_edge_that_chains_disagree_about_is_named():
    found = diagnostics.restarts(markov_chains(shares=[0.1, 0.9]))
    assert found["disagree"].sum() == 1
    assert found["disagree"].sel(parent="X1", child="X2")


def test_r_hat_marks_what_is_constant_and_finds_what_differs():
    rhat = diagnostics.r_hat(markov_chains(shares=[0.05, 0.95]), num_draws=400)
    assert rhat["adjacency"].sel(parent="X1", child="X2") > 1.5
    assert rhat["adjacency_constant"].sum() == 15
    constant = rhat["adjacency_constant"].values
    assert (np.isnan(rhat["adjacency"].values) == constant).all()
    same = diagnostics.r_hat(markov_chains(shares=[0.5, 0.5]), num_draws=400)
    assert same["adjacency"].sel(parent="X1", child="X2") < 1.05
    sure = diagnostics.r_hat(markov_chains(shares=[0.0, 1.0]), num_draws=400)
    assert np.isinf(sure["adjacency"].sel(parent="X1", child="X2"))


@pytest.mark.parametrize(
    ("ask", "what"), [(diagnostics.r_hat, "R-hat"), (diagnostics.restarts, "restarts")]
)
def test_one_chain_alone_is_told_why_it_cannot_be_compared(ask, what):
    with pytest.raises(ConfigError, match=rf"{what}: expected two or more chains, got 1\. It comp"):
        ask(fitted(1).posterior)


def test_pareto_k_of_a_guide_is_a_number_for_each_chain_and_says_what_it_means():
    k = diagnostics.pareto_k(fitted(2).posterior, num_draws=200)
    assert k.dims == ("chain",)
    assert np.isfinite(k).all()
    assert "below 0.7" in k.attrs["meaning"]


def test_pareto_k_does_not_apply_to_markov_chains():
    with pytest.raises(ConfigError, match=r"pareto_k: expected .* got one of Markov chains.*r_hat"):
        diagnostics.pareto_k(evidence_fit().posterior)


@ENGINES
def test_the_task_that_was_corrupted_is_named(model):
    fit = model(2)
    arrays = [np.array(rows) for rows in fit.posterior.tasks.arrays]
    clean = diagnostics.explained_tasks(fit.adapt(TaskDataset.from_arrays(arrays)), num_draws=40)
    assert clean["explained"].all()
    rng = np.random.default_rng(1)
    arrays[2][:3] += 8 * rng.choice([-1, 1], size=arrays[2][:3].shape)  # some cells of another kind
    posterior = fit.adapt(TaskDataset.from_arrays(arrays))
    found = diagnostics.explained_tasks(posterior, num_draws=40)
    assert found["task"].values[int(found["excess"].values.argmax())] == "task3"
    assert found["p_value"].sel(task="task3") < 0.05
    assert not found["explained"].sel(task="task3")
    assert ((found["p_value"] > 0) & (found["p_value"] <= 1)).all()


@ENGINES
def test_the_summary_has_every_finding_in_plain_words(model):
    findings = diagnostics.summary(model(2), num_draws=30)
    names = ["convergence", "restarts", "R-hat", "Pareto k", "tasks"]
    assert [finding.name for finding in findings] == names
    for finding in findings:
        assert finding.status in ("ok", "warn", "unknown")
        assert finding.verdict[0].isupper()
        assert finding.verdict.endswith(".")
        assert finding.status == "unknown" or finding.name == "R-hat" or np.isfinite(finding.value)


def test_the_summary_of_one_restart_says_what_is_unknown_and_why():
    found = {one.name: one for one in diagnostics.summary(fitted(1), num_draws=30)}
    assert found["restarts"].status == found["R-hat"].status == "unknown"
    assert "num_chains=4" in found["R-hat"].verdict


@ENGINES
def test_few_replicates_are_refused_rather_than_judged_by(model):
    with pytest.raises(ConfigError, match="num_draws: expected at least 10, got 9"):
        diagnostics.explained_tasks(model(2).posterior, num_draws=9)
    (found,) = [one for one in diagnostics.summary(model(2), num_draws=9) if one.name == "tasks"]
    assert found.status == "unknown"
    assert "at least 10" in found.verdict


def test_chains_that_cannot_draw_rows_leave_the_tasks_unknown():
    tasks = tiny_tasks()
    posterior = Posterior([EmptyGraphs()] * 2, tasks, standardised=tasks.arrays)
    with pytest.raises(MetaCaDIError, match="replicate: expected chains that can draw rows"):
        diagnostics.explained_tasks(posterior)


class Oracle:
    """A model whose probabilities are those written in its first task, or sharper ones."""

    def __init__(self, sharpened):
        self.sharpened = sharpened

    def copy(self):
        return self

    def fit(self, tasks, **_):
        self.tasks = tasks
        return self

    @property
    def posterior(self):
        d = len(self.tasks.variables)
        prob = self.tasks.arrays[0][:d]
        told = np.where(prob > 0.5, prob ** (1 / 3), prob**3) if self.sharpened else prob
        names = list(self.tasks.variables)
        rng = np.random.default_rng(int(1e6 * prob[0, 1]))
        graphs = (rng.random((2, 200, d, d)) < told).astype(np.int8)
        edge = xr.DataArray(
            told, dims=("parent", "child"), coords={"parent": names, "child": names}
        )
        target = told[: len(self.tasks)]
        coords = {"task": list(self.tasks.tasks), "variable": names}
        return SimpleNamespace(
            edge_probs=edge,
            target_probs=xr.DataArray(target, dims=("task", "variable"), coords=coords),
            sample_graphs=lambda num_draws: xr.DataArray(graphs),
        )


def world_of_known_probabilities(seed, *, d=4):
    """The rows are the very probabilities with which edges and targets were drawn."""
    rng = np.random.default_rng(seed)
    prob = rng.random((d, d)) * (1 - np.eye(d))
    tasks = TaskDataset.from_arrays([prob, rng.random((2, d))])
    return SimpleNamespace(
        tasks=tasks,
        adjacency=(rng.random((d, d)) < prob).astype(int),
        intervention_targets=(rng.random((2, d)) < prob[:2]).astype(int),
    )


def test_of_tasks_that_are_as_replicated_hardly_any_is_not_explained():
    rng, num_tasks, num_rows = np.random.default_rng(0), 4000, 40
    shape = (1, 100, num_tasks * num_rows)
    log_prob = xr.Dataset(
        {
            "log_prob": (("chain", "draw", "obs"), -rng.gamma(5, size=shape).astype("f4")),
            "observed_log_prob": (
                ("chain", "draw", "obs"),
                np.broadcast_to(-rng.gamma(5, size=shape[-1:]), shape),
            ),
        }
    )
    tasks = SimpleNamespace(num_rows=[num_rows] * num_tasks, tasks=range(num_tasks))
    posterior = SimpleNamespace(replicate=lambda num_draws, seed: log_prob, tasks=tasks)
    odd = ~diagnostics.explained_tasks(posterior)["explained"]
    assert 0 < odd.mean() < 0.006


def test_the_task_that_is_named_is_the_one_farthest_beyond_its_limit(monkeypatch):
    found = xr.Dataset(
        {
            "excess": ("task", [4.6, 4.8, 0.1]),
            "explained": ("task", [False, False, True]),
            "statistic": ("task", ["all rows", "worst row", "all rows"]),
        },
        coords={"task": ["whole", "row", "fine"]},
    )
    monkeypatch.setattr(overview, "explained_tasks", lambda *_, **__: found)
    told = overview.of_tasks(None, num_draws=10, seed=0)
    assert (told.status, told.value) == ("warn", 4.6)
    assert told.verdict.startswith("2 task(s) do not")
    assert "most of all whole." in told.verdict


def test_ranks_of_a_calibrated_posterior_are_uniform_and_of_an_overconfident_one_are_not():
    ask = {"num_worlds": 300, "progress": False}
    honest = diagnostics.calibrate(Oracle(False), world_of_known_probabilities, **ask)
    p_values = diagnostics.uniformity(honest)
    assert all(float(p_values[name]) > 0.01 for name in ("edge", "target", "num_edges"))
    held = diagnostics.coverage(honest)
    np.testing.assert_allclose(held["edge"], [0.5, 0.8, 0.9], atol=0.05)
    np.testing.assert_allclose(held["num_edges"], [0.5, 0.8, 0.9], atol=0.1)
    sharp = diagnostics.calibrate(Oracle(True), world_of_known_probabilities, **ask)
    assert float(diagnostics.coverage(sharp)["edge"].sel(level=0.8)) < 0.75
    assert float(diagnostics.uniformity(sharp)["edge"]) < 0.05


def test_worlds_are_fitted_again_and_the_model_stays_as_it_is():
    model = fitted(1)
    world = partial(simulators.linear_anm, num_variables=3, num_tasks=4, num_samples=12)
    found = diagnostics.calibrate(
        model, lambda seed: world(seed=seed), num_worlds=2, num_draws=20, progress=False
    )
    assert dict(found.sizes) == {**{"world": 2, "parent": 3, "child": 3, "task": 4, "variable": 3}}
    off = ~np.eye(3, dtype=bool)
    assert (
        (found["edge_rank"].values[:, off] >= 0) & (found["edge_rank"].values[:, off] <= 1)
    ).all()
    assert not found.isel(world=0)["edge_prob"].equals(found.isel(world=1)["edge_prob"])
    assert fitted(1)._fit is model._fit


@pytest.mark.parametrize(
    "world",
    [
        None,
        SimpleNamespace(adjacency=np.eye(2), intervention_targets=np.eye(2)),
        SimpleNamespace(
            tasks=TaskDataset.from_arrays(np.ones((2, 3, 2))),
            adjacency=np.zeros((3, 3)),
            intervention_targets=np.zeros((2, 2)),
        ),
    ],
)
def test_what_is_no_world_is_refused(world):
    with pytest.raises(ConfigError, match=r"simulator: expected a world .* Return what"):
        diagnostics.calibrate(Oracle(False), lambda seed: world, num_worlds=1, progress=False)


@pytest.mark.parametrize("levels", [0.0, 1.5, [0.5, -1], [np.nan]])
def test_levels_of_coverage_are_probabilities(levels):
    with pytest.raises(ConfigError, match=r"levels: expected numbers between 0 and 1"):
        diagnostics.coverage(xr.Dataset(), levels)


def test_worlds_of_unequal_size_are_refused():
    sizes = iter([4, 5])
    with pytest.raises(ConfigError, match=r"simulator: expected worlds of one size"):
        diagnostics.calibrate(
            Oracle(False),
            lambda seed: world_of_known_probabilities(seed, d=next(sizes)),
            num_worlds=2,
            progress=False,
        )
