"""Chains over orders draw from the law that enumeration gives, from any start, by seed alone."""

import itertools
import os

import numpy as np
import pytest
import torch
from pyro.infer import MCMC

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.order_mcmc import OrderMCMC, sample_graphs
from pyro_metacadi.ops.graphs import is_dag, topological_order
from pyro_metacadi.ops.relax import adjacency_from_order
from pyro_metacadi.ops.subsets import ScoreTable
from tests.helpers import random_dag, random_states

INF = float("inf")


def random_table(num_variables, *, seed=0, most=4, missing=0.0, scale=1.5):
    """Random scores of all subsets of up to `most` random candidates."""
    generator = torch.Generator().manual_seed(seed)
    candidates, scores = [], []
    for i in range(num_variables):
        others = [int(j) for j in torch.randperm(num_variables, generator=generator) if j != i]
        candidates.append(others[:most])
        size = 2 ** len(candidates[i])
        score = scale * torch.randn(size, generator=generator, dtype=torch.float64)
        score[torch.rand(size, generator=generator) < missing] = -INF
        scores.append(score)
    return ScoreTable(candidates, scores)


def anchored(table):
    """The same table with the empty set scored, so that every order is possible."""
    for scores in table.log_score:
        scores[0] = 0.0
    return table


def exact_law(table):
    """Mass of every DAG, by its bytes, from all pairs of an order and parent sets."""
    mass, size = {}, table.num_variables
    for order in itertools.permutations(range(size)):
        choices = []
        for i in range(size):
            before = set(order[: order.index(i)])
            masks = range(2 ** len(table.candidates[i]))
            sets = [[c for k, c in enumerate(table.candidates[i]) if m >> k & 1] for m in masks]
            pairs = zip(sets, table.log_score[i].exp().tolist(), strict=True)
            choices.append([(s, w) for s, w in pairs if set(s) <= before and w > 0])
        for chosen in itertools.product(*choices):
            graph = np.zeros((size, size), dtype=np.int8)
            for child, (parents, _) in enumerate(chosen):
                graph[parents, child] = 1
            weight = np.prod([w for _, w in chosen])
            mass[graph.tobytes()] = mass.get(graph.tobytes(), 0.0) + weight
    total = sum(mass.values())
    return {graph: weight / total for graph, weight in mass.items()}


def total_variation(adjacency, law):
    graphs, counts = np.unique(adjacency.flatten(0, 1).numpy(), axis=0, return_counts=True)
    drawn = {g.tobytes(): c / counts.sum() for g, c in zip(graphs, counts, strict=True)}
    return 0.5 * sum(abs(law.get(g, 0.0) - drawn.get(g, 0.0)) for g in law.keys() | drawn.keys())


TABLES = {
    "one variable": random_table(1),
    "two": random_table(2),
    "three": random_table(3, seed=1),
    "three, some sets unscored": anchored(random_table(3, seed=2, missing=0.4)),
    "three, few candidates": random_table(3, seed=3, most=1),
    "a parent required": ScoreTable(
        [[1], [2], []],
        [torch.tensor([-INF, 0.3]), torch.tensor([0.0, 1.0]), torch.tensor([0.5])],
    ),
    "four": random_table(4, seed=4, scale=2.5),
    "four, restricted": anchored(random_table(4, seed=5, most=2, missing=0.2)),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("num_temperatures", [1, 3])
def test_graphs_are_drawn_from_the_exact_law(name, num_temperatures):
    options = {"num_chains": 1500, "num_temperatures": num_temperatures}
    drawn = sample_graphs(TABLES[name], num_draws=100, warmup=15, **options)
    assert total_variation(drawn["adjacency"], exact_law(TABLES[name])) <= 0.02


def test_one_long_chain_has_that_law_too():
    table = TABLES["three, some sets unscored"]
    drawn = sample_graphs(table, num_chains=1, num_draws=3000, warmup=50)
    assert total_variation(drawn["adjacency"], exact_law(table)) <= 0.04


def worst_rhat(adjacency):
    import arviz

    edges = adjacency.flatten(2).double().numpy()
    varying = np.flatnonzero(edges.std((0, 1)) > 0)
    assert len(varying) > 20
    return max(float(arviz.rhat(edges[:, :, k])) for k in varying)


def test_chains_from_random_starts_agree():
    drawn = sample_graphs(random_table(8, most=7), num_chains=4, num_draws=400, warmup=100)
    assert worst_rhat(drawn["adjacency"]) < 1.05


@pytest.mark.parametrize(("num_temperatures", "leaves"), [(1, False), (4, True)])
def test_heated_copies_let_chains_leave_a_local_optimum(num_temperatures, leaves):
    # Each variable is explained by all three of the other group: either group may come first, and
    # on the way from one to the other the score falls by 24.
    groups = [[3, 4, 5], [0, 1, 2]]
    scores = torch.tensor([0.0] * 7 + [12.0])
    table = ScoreTable([groups[i // 3] for i in range(6)], [scores] * 6)
    starts = torch.tensor([[0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]])
    options = {"num_chains": 2, "initial_orders": starts, "num_temperatures": num_temperatures}
    drawn = sample_graphs(table, num_draws=600, warmup=50, **options)
    forwards = drawn["adjacency"][:, :, 0, 3].double().mean(1)
    assert bool((forwards - 0.5).abs().max() < 0.25) == leaves


def test_every_draw_is_acyclic_and_carries_its_score():
    table = random_table(7, most=4, missing=0.3)
    drawn = sample_graphs(anchored(table), num_chains=3, num_draws=50, warmup=0, thin=2)
    assert drawn["adjacency"].shape == (3, 50, 7, 7)
    assert drawn["adjacency"].dtype == torch.int8
    assert all(is_dag(graph) for graph in drawn["adjacency"].flatten(0, 1))
    expected = table.log_prob(drawn["adjacency"].double())
    torch.testing.assert_close(drawn["log_score"], expected)
    assert expected.isfinite().all()


def test_pyros_mcmc_runs_the_kernel():
    table = random_table(4)
    kernel = OrderMCMC(table, num_chains=3)
    mcmc = MCMC(kernel, num_samples=20, warmup_steps=5, num_chains=1, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()
    shapes = {name: tuple(draw.shape) for name, draw in draws.items()}
    assert shapes == {
        "order_score": (20, 3, 4),
        "parent_set": (20, 3, 4),
        "log_score": (20, 3),
    }
    assert all(draw.is_floating_point() for draw in draws.values())
    edge = table.adjacency(draws["parent_set"].long()).double()
    torch.testing.assert_close(adjacency_from_order(draws["order_score"], edge), edge)
    assert 0 < mcmc.diagnostics()["exchanges"]["chain 0"] <= 1
    assert set(kernel.logging()) == {"exchanges"}


def test_chains_start_where_they_are_told_to():
    table, dags = random_table(5), [random_dag(5, seed=s) for s in (0, 1)]
    orders = torch.stack([topological_order(dag) for dag in dags])
    kernel = OrderMCMC(table, num_chains=2, initial_orders=orders)
    score = kernel.initial_params["order_score"]
    assert score.argsort(-1, descending=True).tolist() == orders.tolist()
    kernel.initial_params = {"order_score": score.flip(0)}
    assert torch.equal(kernel.initial_params["order_score"], score.flip(0))


def test_a_seed_gives_its_draws_and_leaves_the_callers_alone():
    table, before = random_table(5), random_states()
    runs = [sample_graphs(table, num_draws=20, warmup=5, seed=seed) for seed in (7, 7, 8)]
    assert random_states() == before
    assert torch.equal(runs[0]["adjacency"], runs[1]["adjacency"])
    assert torch.equal(runs[0]["log_score"], runs[1]["log_score"])
    assert not torch.equal(runs[0]["adjacency"], runs[2]["adjacency"])


def test_another_process_is_refused(monkeypatch):
    kernel = OrderMCMC(random_table(3))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ConfigError, match=r"^num_chains: expected 1 for MCMC, got several"):
        kernel.setup(0)


REQUIRED = TABLES["a parent required"]
NEEDS_EACH_OTHER = ScoreTable([[1], [0]], [torch.tensor([-INF, 0.0])] * 2)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (NEEDS_EACH_OTHER, {}, r"log_score: expected tables that some order has a finite score"),
        (
            REQUIRED,
            {"initial_orders": torch.tensor([[0, 1, 2]]), "num_chains": 1},
            r"initial_orders: expected orders that allow .*got \[0, 1, 2\] in chain 0\. Leave",
        ),
        (
            REQUIRED,
            {"initial_orders": torch.tensor([[1, 1, 2]]), "num_chains": 1},
            r"initial_orders: expected for each of 1 chains a permutation of 3 variables, got",
        ),
        (
            REQUIRED,
            {"initial_orders": torch.tensor([[2, 1, 0]]), "num_chains": 2},
            r"initial_orders: expected for each of 2 chains a permutation",
        ),
        (REQUIRED, {"num_chains": 0}, r"num_chains: expected at least 1, got 0"),
        (REQUIRED, {"num_draws": 0}, r"num_draws: expected at least 1, got 0"),
        (REQUIRED, {"warmup": -1}, r"warmup: expected at least 0, got -1"),
        (REQUIRED, {"thin": 0}, r"thin: expected at least 1, got 0"),
        (REQUIRED, {"num_temperatures": 0}, r"num_temperatures: expected at least 1, got 0"),
        (REQUIRED, {"seed": -1}, r"seed: expected a whole number from 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused_by_name(table, options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        sample_graphs(table, **options)
