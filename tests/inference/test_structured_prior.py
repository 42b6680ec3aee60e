"""Draws under a product, weighed anew, follow the law that enumeration gives under the prior."""

import itertools

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule

from pyro_metacadi.errors import ConfigError, MetaCaDIWarning
from pyro_metacadi.inference.order_mcmc import sample_graphs
from pyro_metacadi.inference.structured_prior import StructuredPrior
from pyro_metacadi.models import ExpertGraphPrior, ScaleFreeGraphPrior, SparseGraphPrior
from pyro_metacadi.ops.graphs import is_dag
from pyro_metacadi.ops.subsets import ScoreTable

OFF = ~torch.eye(3, dtype=torch.bool)


class Chained(PyroModule):
    """A user's: whoever comes first in the order causes the others more often, X1 never X2."""

    def __init__(self, num_variables):
        super().__init__()
        self.constraints = ExpertGraphPrior(num_variables, forbidden=[(0, 1)]).constraints

    def forward(self):
        return self.given_order(torch.zeros(3))

    def given_order(self, order_score):
        first = order_score >= order_score.amax(-1, keepdim=True)
        chance = torch.where(first, 0.8, 0.25).unsqueeze(-1).expand(*order_score.shape, 3)
        return dist.Bernoulli(chance).mask(self.constraints.free).to_event(2)


def evidence(seed, scale=1.5):
    """Log likelihood of the 4 parent sets of each of three variables."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(3, 4, generator=generator, dtype=torch.float64)


def others(i):
    return [j for j in range(3) if j != i]


def exact_law(prior, likelihood, free):
    """Mass of every DAG, summed over orders and all indicators."""
    mass = {}
    bits = [tuple(map(int, pair)) for pair in free.nonzero()]
    for order in itertools.permutations(range(3)):
        score = torch.tensor([-float(order.index(i)) for i in range(3)])
        given = getattr(prior, "given_order", None)
        law = prior() if given is None else given(score)
        for values in itertools.product((0.0, 1.0), repeat=len(bits)):
            edges = torch.zeros(3, 3)
            for (i, j), value in zip(bits, values, strict=True):
                edges[i, j] = value
            graph = edges * (score.unsqueeze(-1) > score)
            fit = sum(
                likelihood[i, int(sum(2**k * graph[j, i] for k, j in enumerate(others(i))))]
                for i in range(3)
            )
            key = graph.to(torch.int8).numpy().tobytes()
            mass[key] = mass.get(key, 0.0) + float((fit + law.log_prob(edges)).exp())
    total = sum(mass.values())
    return {graph: weight / total for graph, weight in mass.items()}


def drawn_law(prior, likelihood, free, *, seed=0):
    structured = StructuredPrior(prior, 3)
    odds = torch.tensor(structured.edge_log_odds)
    scores = likelihood.clone()
    for i in range(3):
        for mask in range(4):
            parents = [j for k, j in enumerate(others(i)) if mask >> k & 1]
            scores[i, mask] += odds[parents, i].sum()
            if not all(free[j, i] for j in parents):
                scores[i, mask] = -float("inf")
    table = ScoreTable([others(i) for i in range(3)], list(scores))
    draws = sample_graphs(table, num_chains=400, num_draws=100, warmup=10, seed=seed)
    found = structured.resampled(draws, seed=seed)
    assert found["adjacency"].shape == draws["adjacency"].shape
    graphs, counts = np.unique(found["adjacency"].flatten(0, 1).numpy(), axis=0, return_counts=True)
    return {g.tobytes(): c / counts.sum() for g, c in zip(graphs, counts, strict=True)}


class Sampled(ScaleFreeGraphPrior):
    graph_log_prob = None


PRIORS = {
    "hubs": ScaleFreeGraphPrior(3, exponent=3.0),
    "edges against the order are drawn": Sampled(3, exponent=3.0),
    "equal numbers": ScaleFreeGraphPrior(3, exponent=0.0),
    "a product": SparseGraphPrior(3, probability=0.3),
    "given the order": Chained(3),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PRIORS)
def test_draws_follow_the_exact_posterior(name, seed):
    prior, likelihood = PRIORS[name], evidence(seed)
    free = OFF & getattr(getattr(prior, "constraints", None), "free", OFF)
    exact = exact_law(prior, likelihood, free)
    drawn = drawn_law(prior, likelihood, free)
    distance = sum(abs(exact.get(g, 0) - drawn.get(g, 0)) for g in exact.keys() | drawn.keys()) / 2
    assert distance < 0.02


def test_orders_stay_uniform_among_those_that_the_graph_and_its_tiers_allow():
    """X1 -> X3; X4 in a later tier: X2 anywhere before it."""
    prior = ExpertGraphPrior(4, tiers=[[0, 1, 2], [3]])
    structured = StructuredPrior(prior, 4)
    graph = torch.zeros(1, 4000, 4, 4, dtype=torch.bool)
    graph[..., 0, 2] = True
    order = torch.tensor([0, 1, 2, 3]).expand(1, 4000, 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for first in [0, 1] * 20:
            order = structured._swapped(order, graph, first)
    orders, counts = order[0].unique(dim=0, return_counts=True)
    assert orders.tolist() == [[0, 1, 2, 3], [0, 2, 1, 3], [1, 0, 2, 3]]
    assert counts / 4000 == pytest.approx(1 / 3, abs=0.03)


def test_of_twenty_variables_many_graphs_count():
    """Of which data make two parents each nearly certain."""
    d = 20
    candidates = [[j for j in (i // 2, i // 3) if j < i] for i in range(d)]
    candidates = [sorted(set(parents)) for parents in candidates]
    structured = StructuredPrior(ScaleFreeGraphPrior(d), d)
    odds = torch.tensor(structured.edge_log_odds)
    scores = []
    for i, parents in enumerate(candidates):
        sets = [[j for k, j in enumerate(parents) if m >> k & 1] for m in range(2 ** len(parents))]
        scores.append(torch.stack([odds[chosen, i].sum() + 6.0 * len(chosen) for chosen in sets]))
    draws = sample_graphs(ScoreTable(candidates, scores), num_chains=1, num_draws=500, warmup=50)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight = structured._log_weight(draws["order_score"], draws["adjacency"])
    assert 1 / weight.softmax(-1).square().sum() > 50


def test_a_product_needs_no_weights():
    structured = StructuredPrior(SparseGraphPrior(3, probability=0.4), 3)
    share = torch.sigmoid(torch.tensor(structured.edge_log_odds))
    assert share[OFF].numpy() == pytest.approx(0.4, abs=0.04)
    score = torch.tensor([[[2.0, 1.0, 0.0]] * 50], dtype=torch.float64)
    graph = (torch.rand(1, 50, 3, 3) < 0.4) & (score.unsqueeze(-1) > score.unsqueeze(-2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight = structured._log_weight(score, graph.to(torch.int8))
    assert weight.std() < 0.3  # the shares are estimates


def test_draws_are_as_many_in_their_order_and_the_same_for_a_seed():
    structured = StructuredPrior(PRIORS["hubs"], 3)
    table = ScoreTable([others(i) for i in range(3)], list(evidence(2)))
    draws = sample_graphs(table, num_chains=2, num_draws=200, seed=1)
    first, again, other = (structured.resampled(draws, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["log_score"], other["log_score"])
    before = torch.random.get_rng_state()
    structured.resampled(draws, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.isfinite(first["log_score"]).all()
    assert first["adjacency"].shape == draws["adjacency"].shape
    assert all(is_dag(graph) for graph in first["adjacency"].flatten(0, 1))


class Crowded(PyroModule):
    """The more edges, the more again."""

    def __init__(self, num_variables):
        super().__init__()
        self.num_variables = num_variables

    def forward(self):
        return Crowds(event_shape=torch.Size([self.num_variables] * 2), validate_args=False)


class Crowds(dist.TorchDistribution):
    arg_constraints = {}  # noqa: RUF012

    def sample(self, sample_shape=()):
        return torch.randint(2, (*sample_shape, *self.event_shape)).float()

    def log_prob(self, value):
        return 0.3 * (value - torch.diag_embed(value.diagonal(dim1=-1, dim2=-2))).sum((-1, -2)) ** 2


def test_a_prior_that_is_far_from_independent_edges_is_named():
    d = 6
    candidates = [[j for j in range(d) if j != i] for i in range(d)]
    scores = [torch.zeros(2 ** (d - 1), dtype=torch.float64) for _ in range(d)]
    draws = sample_graphs(ScoreTable(candidates, scores), num_chains=2, num_draws=100)
    with pytest.warns(MetaCaDIWarning, match=r"graph_prior: expected 20 graphs .* engine='svi'"):
        StructuredPrior(Crowded(d), d).resampled(draws, seed=0)


class Nothing(ScaleFreeGraphPrior):
    def graph_log_prob(self, adjacency, order_score):
        return super().graph_log_prob(adjacency, order_score) + self.what


@pytest.mark.parametrize("what", [-torch.inf, torch.nan])
def test_a_prior_that_allows_none_of_the_graphs_is_named(what):
    prior = Nothing(3)
    prior.what = what
    table = ScoreTable([others(i) for i in range(3)], list(evidence(2)))
    draws = sample_graphs(table, num_chains=2, num_draws=50)
    with pytest.raises(ConfigError, match=r"finite log probabilities of graphs .* of Nothing"):
        StructuredPrior(prior, 3).resampled(draws, seed=0)


class Few(ScaleFreeGraphPrior):
    def graph_log_prob(self, adjacency, order_score):
        return super().graph_log_prob(adjacency, order_score).sum(-1)


def test_masses_of_another_shape_are_named():
    draws = sample_graphs(ScoreTable([others(i) for i in range(3)], list(evidence(2))))
    with pytest.raises(ConfigError, match=r"graph_log_prob \[4, 500\], one number a graph"):
        StructuredPrior(Few(3), 3).resampled(draws, seed=0)


def test_many_edges_of_one_variable_are_believed_sooner_with_hubs():
    """The evidence for each edge of X1 alone is weak; hubs have them together or not."""
    d = 5
    candidates = [[j for j in range(d) if j != i] for i in range(d)]
    hubs = ScaleFreeGraphPrior(d, exponent=2.0)
    share = 1 / (1 + np.exp(-StructuredPrior(hubs, d).edge_log_odds))
    chance = float(share[~np.eye(d, dtype=bool)].mean())
    priors = {"hubs": hubs, "none": SparseGraphPrior(d, probability=chance)}
    found = {}
    for name, prior in priors.items():
        structured = StructuredPrior(prior, d)
        odds = torch.tensor(structured.edge_log_odds)
        scores = []
        for i in range(d):
            masks = range(2 ** (d - 1))
            sets = [[c for k, c in enumerate(candidates[i]) if m >> k & 1] for m in masks]
            fit = [(2.0 if 0 in s else 0.0) - 2.0 * len(set(s) - {0}) for s in sets]
            prior_of = torch.stack([odds[s, i].sum() for s in sets])
            scores.append(prior_of + torch.tensor(fit))
        draws = sample_graphs(ScoreTable(candidates, scores), num_chains=20, num_draws=300)
        found[name] = structured.resampled(draws, seed=0)["adjacency"][..., 0, :].double().sum(-1)
    assert (found["hubs"] == 4).double().mean() > (found["none"] == 4).double().mean() + 0.05
