"""The table of parent sets holds the scores of those sets, and all of them where there are few."""

import itertools

import numpy as np
import pytest
import torch

from pyro_metacadi import MetaCaDI, simulators
from pyro_metacadi.inference.candidates import score_table
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.graph_score import CERTAIN, GraphScore
from pyro_metacadi.inference.search import climb
from pyro_metacadi.models.families import Family, families_of
from tests.inference.test_search import certain_odds, empty, random_score


def entries(table):
    """Family -> score, of all subsets in the table."""
    return {
        Family(child, sum(1 << c for k, c in enumerate(candidates) if number >> k & 1)): value
        for child, (candidates, scores) in enumerate(
            zip(table.candidates, table.log_score, strict=True)
        )
        for number, value in enumerate(scores.tolist())
    }


def all_families(num_variables):
    return [
        Family(i, parents)
        for i in range(num_variables)
        for parents in range(2**num_variables)
        if not parents >> i & 1
    ]


@pytest.mark.parametrize("seed", range(5))
def test_entries_are_the_scores_of_their_families(seed):
    score = random_score(6, seed=seed, log_odds=-0.5)
    families = climb(empty(6), score)
    found = {f: v for f, v in entries(score_table(families, score)).items() if v > -np.inf}
    assert found == score(list(found))
    assert found.keys() >= set(families)


@pytest.mark.parametrize("seed", range(5))
def test_scores_that_are_close_leave_out_no_set_of_a_small_problem(seed):
    score = random_score(4, seed=seed, spread=0.5)
    found = entries(score_table(climb(empty(4), score), score))
    assert found == score(all_families(4))


@pytest.mark.parametrize("seed", range(10))
def test_sets_have_all_required_and_no_forbidden_parents(seed):
    odds = certain_odds(4, seed=seed)
    score = random_score(4, seed=seed, log_odds=odds)
    families = climb(families_of(torch.tensor(odds >= CERTAIN)), score)
    table = entries(score_table(families, score))
    assert all(score.allows(family) == (value > -np.inf) for family, value in table.items())
    assert all(table[family] > -np.inf for family in families)


def test_a_parent_that_would_cost_much_is_no_candidate():
    cost = dict.fromkeys(range(7), 0.5) | {2: -100.0}

    def evidence(families):
        return [sum(cost[j] for j in range(7) if f.parents >> j & 1) for f in families]

    score = GraphScore(evidence, np.zeros((7, 7)))
    table = score_table(climb(empty(7), score), score)
    assert all(2 not in candidates for candidates in table.candidates)


def exact_law(model):
    """Mass of every DAG, by its bytes, with a uniform order and the odds of the edges."""
    size = len(model.variables)
    odds = model.components.graph_odds(model.variables).edge_log_odds
    score = GraphScore(model._fit.scaling.evidence.scores, odds)
    value, mass = score(all_families(size)), {}
    for order in itertools.permutations(range(size)):
        choices = []
        for i in range(size):
            later = sum(1 << j for j in order[order.index(i) :])
            choices.append([f for f in value if f.variable == i and not f.parents & later])
        for families in itertools.product(*choices):
            graph = np.array([[f.parents >> i & 1 for f in families] for i in range(size)])
            key = graph.astype(np.int8).tobytes()
            mass[key] = np.logaddexp(mass.get(key, -np.inf), sum(value[f] for f in families))
    total = np.logaddexp.reduce(list(mass.values()))
    return {graph: np.exp(weight - total) for graph, weight in mass.items()}


@pytest.mark.parametrize(("num_variables", "seed"), [(3, 2), (3, 4), (4, 6)])
def test_draws_follow_the_law_that_enumeration_gives(num_variables, seed):
    world = simulators.gp_anm(
        num_variables=num_variables, num_tasks=6, num_samples=10, seed=seed, noise_scale=0.7
    )
    sampling = Sampling(num_draws=200, warmup=20, num_chains=200)
    model = MetaCaDI(engine="evidence", sampling=sampling).fit(world.tasks, progress=False)
    law = exact_law(model)
    assert max(law.values()) < 0.9
    draws = torch.cat([chain.adjacency for chain in model._fit.chains]).numpy()
    graphs, counts = np.unique(draws, axis=0, return_counts=True)
    drawn = {g.tobytes(): c / counts.sum() for g, c in zip(graphs, counts, strict=True)}
    assert drawn.keys() <= law.keys()
    assert 0.5 * sum(abs(p - drawn.get(g, 0.0)) for g, p in law.items()) <= 0.02


@pytest.mark.parametrize("seed", range(5))
def test_a_cheaper_score_leaves_no_trace_in_the_table(seed):
    score, cheap = random_score(6, seed=seed), random_score(6, seed=seed, log_odds=-0.3)
    families = climb(empty(6), score)
    found = entries(score_table(families, score, explored=cheap))
    found = {family: value for family, value in found.items() if value > -np.inf}
    assert found == score(list(found))
    assert found.keys() >= set(families)


def priced(of_parent):
    """A score of independent parents: what parent j gains any variable."""

    def evidence(families):
        return [
            sum(gain for j, gain in enumerate(of_parent) if family.parents >> j & 1)
            for family in families
        ]

    return GraphScore(evidence, np.zeros((len(of_parent), len(of_parent))))


def test_a_parent_that_a_cheaper_score_would_never_add_is_a_candidate():
    exact, cheap = priced([-90, 5, -90, -90, -90, 1]), priced([-90, -90, -90, 5, -90, 1])
    families = [Family(i, 0b100000 if i < 5 else 0) for i in range(6)]
    found = score_table(families, exact, explored=cheap)
    assert found.candidates[0] == [5, 1, 3]
    # Of the variable without parents nothing is exchanged.
    assert found.candidates[5] == [1]
