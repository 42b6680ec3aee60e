"""The ELBO of DP-DAG under a decomposable score: gradients, bounds and edges by enumeration."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceGraph_ELBO

from pyro_metacadi.errors import ConfigError, GraphError
from pyro_metacadi.guides import DAGGuide
from pyro_metacadi.inference.graph_score import CERTAIN
from pyro_metacadi.inference.graph_svi import GraphELBO, fit_dag_guide
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import SparseGraphPrior
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.evidence_program import EvidenceModel
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.graphs import topological_order
from tests.helpers import random_dag, random_states

D = 3
PAIRS = [(i, j) for i in range(D) for j in range(D) if i != j]
ORDERS = torch.tensor(list(itertools.permutations(range(D))))
EDGES = torch.zeros(2 ** len(PAIRS), D, D, dtype=torch.float64)
for row, chosen in zip(EDGES, itertools.product([0.0, 1.0], repeat=len(PAIRS)), strict=True):
    for (i, j), present in zip(PAIRS, chosen, strict=True):
        row[i, j] = present
FORWARD = (ORDERS.argsort(-1).unsqueeze(-1) < ORDERS.argsort(-1).unsqueeze(-2)).double()
BOUNDS = ["graph", "program"]


def random_score(*, seed=0, scale=1.5):
    """Independent normal scores of all families."""
    rng = np.random.default_rng(seed)
    table = {
        Family(i, p): float(scale * rng.normal())
        for i, p in itertools.product(range(D), range(2**D))
        if not p >> i & 1
    }
    return lambda families: [table[family] for family in families]


def additive_score(weight):
    """Each edge ``[parent, child]`` adds its weight."""
    return lambda families: [
        sum(weight[j][f.variable] for j in range(len(weight)) if f.parents >> j & 1)
        for f in families
    ]


def random_odds(seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(-0.5, 1.0, (D, D)))


def guide_at(seed):
    """A guide in general position."""
    guide, rng = DAGGuide(D).double(), np.random.default_rng(seed)
    with torch.no_grad():
        guide.order_loc.copy_(torch.tensor(rng.normal(size=D)))
        guide.edge_logits.copy_(torch.tensor(rng.normal(size=(D, D))))
    return guide


def total_scores(score):
    """Summed over variables, for every order and edge set."""
    parents = FORWARD.unsqueeze(1) * EDGES  # [order, edge set, parent, child]
    masks = (parents * 2 ** torch.arange(D).unsqueeze(-1)).sum(-2).long().flatten(0, 1)
    values = score([Family(i, p) for row in masks.tolist() for i, p in enumerate(row)])
    return torch.tensor(values, dtype=torch.float64).reshape(*parents.shape[:2], D).sum(-1)


def log_bernoulli(logits):
    """Log mass of every edge set."""
    mass = EDGES * logits - torch.nn.functional.softplus(logits)
    return mass.sum((-1, -2)) - mass.diagonal(dim1=-1, dim2=-2).sum(-1)


def log_evidence(score, odds):
    return (total_scores(score) + log_bernoulli(odds)).logsumexp((0, 1)).item() - math.log(6)


def exact_edges(score, odds):
    """Posterior probability of every edge."""
    law = (total_scores(score) + log_bernoulli(odds)).flatten().softmax(0)
    return torch.einsum("oe,oij,eij->ij", law.reshape(len(ORDERS), -1), FORWARD, EDGES)


def exact_elbo(guide, score, odds, bound):
    """Sum over every order and edge set; differentiable."""
    loc = guide.order_loc[ORDERS]
    log_order = sum(loc[:, k] - loc[:, k:].logsumexp(-1) for k in range(D))
    mass = log_order.exp().unsqueeze(-1) * log_bernoulli(guide.edge_logits).exp()
    value = (mass * total_scores(score)).sum()
    q, p = torch.sigmoid(guide.edge_logits), torch.sigmoid(odds)
    kl = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    kl = kl * (1 - torch.eye(D))
    if bound == "program":
        return value - kl.sum() - (guide.order_loc + (-guide.order_loc).exp() - 1).sum()
    by_order = log_order + math.log(6) + (FORWARD * kl).sum((-1, -2))
    return value - (log_order.exp() * by_order).sum()


def gradient(loss, guide):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, tuple(guide.parameters()))])


def check_mean(samples, expected):
    """The mean of the rows is what is expected, within five standard errors."""
    error = samples.std(0) / math.sqrt(len(samples))
    assert ((samples.mean(0) - expected).abs() <= 5 * error + 1e-9).all()


# The estimator


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_are_those_of_enumeration_on_average(bound, seed):
    guide, score, odds = guide_at(seed), random_score(seed=seed), random_odds(seed)
    estimate, rows = GraphELBO(score, odds, bound), []
    with isolated(seed):
        for _ in range(400):
            value = estimate(guide, num_draws=16)
            rows.append(torch.cat([value.detach().reshape(1), gradient(value, guide)]))
    exact = exact_elbo(guide, score, odds, bound)
    check_mean(torch.stack(rows), torch.cat([exact.detach().reshape(1), gradient(exact, guide)]))


def test_two_draws_do_not_bias_the_gradient():
    guide, score, odds = guide_at(2), random_score(seed=2), random_odds(2)
    estimate = GraphELBO(score, odds)
    with isolated(0):
        rows = [gradient(estimate(guide, num_draws=2), guide) for _ in range(800)]
    check_mean(torch.stack(rows), gradient(exact_elbo(guide, score, odds, "graph"), guide))


class Scores(MechanismEvidence):
    """Scores without data, for `EvidenceModel`."""

    def __init__(self, score):
        self.num_variables, self.scores = D, score


class DetachedGumbel(dist.Gumbel):
    has_rsample = False


def pyro_gradients(guide, score, odds, *, repeats):
    """Of single draws, by Pyro's own estimator for sites without a pathwise derivative."""

    def sites():
        order = DetachedGumbel(guide.order_loc, torch.ones_like(guide.order_loc))
        pyro.sample("order_score", order.to_event(1))
        edge = dist.Bernoulli(logits=guide.edge_logits).mask(~torch.eye(D, dtype=torch.bool))
        pyro.sample("edge", edge.to_event(2))

    loss, rows = TraceGraph_ELBO(), []
    with isolated(0), pyro.validation_enabled(False):
        prior = SparseGraphPrior(D, probability=torch.sigmoid(odds).numpy()).double()
        program = EvidenceModel(Scores(score), graph_prior=prior)
        for _ in range(repeats):
            guide.zero_grad()
            loss.loss_and_grads(program, sites)
            rows.append(torch.cat([-p.grad.flatten() for p in guide.parameters()]))
    guide.zero_grad()
    return torch.stack(rows)


def test_pyros_program_has_the_same_gradient_and_more_noise():
    guide, score, odds = guide_at(3), random_score(seed=3), random_odds(3)
    reference = pyro_gradients(guide, score, odds, repeats=300)
    check_mean(reference, gradient(exact_elbo(guide, score, odds, "program"), guide))
    estimate, num_draws = GraphELBO(score, odds, "program"), 8
    with isolated(1):
        rows = [gradient(estimate(guide, num_draws=num_draws), guide) for _ in range(400)]
    ours = torch.stack(rows)
    difference = (ours.mean(0) - reference.mean(0)).abs()
    error = (ours.var(0) / len(ours) + reference.var(0) / len(reference)).sqrt()
    assert (difference <= 5 * error + 1e-6).all()
    assert num_draws * ours.var(0).sum() < 0.5 * reference.var(0).sum()


def test_scores_of_other_variables_add_no_noise_to_an_edge():
    # Only X1 has scores, so nothing is heard of edges into X2 and X3 but the prior.
    def score(families):
        return [100.0 * f.parents if f.variable == 0 else 0.0 for f in families]

    guide, odds = guide_at(4), random_odds(4)
    estimate = GraphELBO(score, odds, "program")
    with isolated(0):
        rows = [torch.autograd.grad(estimate(guide, num_draws=4), guide.edge_logits)[0]]
        rows += [torch.autograd.grad(estimate(guide, num_draws=4), guide.edge_logits)[0]]
    assert not torch.equal(rows[0][:, 0], rows[1][:, 0])
    assert torch.equal(rows[0][:, 1:], rows[1][:, 1:])


# The fit


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_fit_raises_the_elbo_and_stays_below_the_evidence(bound):
    score, odds = random_score(seed=5), random_odds(5)
    fit = fit_dag_guide(score, D, edge_log_odds=odds.numpy(), num_steps=250, bound=bound)
    reached = exact_elbo(fit.guide, score, odds, bound).item()
    assert fit.elbo.shape == (250,)
    assert fit.elbo[:10].mean() < reached <= log_evidence(score, odds)
    assert fit.elbo[-50:].mean() == pytest.approx(reached, abs=0.1)


def test_the_bound_of_graphs_is_the_tighter_one():
    for seed in range(5):
        guide, score, odds = guide_at(seed), random_score(seed=seed), random_odds(seed)
        graph, program = (exact_elbo(guide, score, odds, bound).item() for bound in BOUNDS)
        assert program < graph <= log_evidence(score, odds)


CHAIN = [[0.0, 15.0, -15.0], [-15.0, 0.0, 15.0], [-15.0, -15.0, 0.0]]


def test_where_one_graph_stands_out_the_bound_is_close():
    score, odds = additive_score(CHAIN), torch.full((D, D), -1.0, dtype=torch.float64)
    fit = fit_dag_guide(score, D, edge_log_odds=-1.0, num_steps=300)
    gap = log_evidence(score, odds) - exact_elbo(fit.guide, score, odds, "graph").item()
    assert 0 <= gap < 0.2
    expected = torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(fit.guide.edge_probability().detach(), expected, atol=0.02, rtol=0)


def test_edges_have_their_exact_probabilities_where_the_posterior_factorises():
    # Either direction of a pair gains the same, so that orders stay as likely as they were.
    weight = [[0.0, 1.0, -2.0], [1.0, 0.0, 2.5], [-2.0, 2.5, 0.0]]
    score, odds = additive_score(weight), torch.full((D, D), -0.7, dtype=torch.float64)
    fit = fit_dag_guide(score, D, edge_log_odds=-0.7, num_steps=400)
    exact = exact_edges(score, odds)
    torch.testing.assert_close(fit.guide.edge_probability().detach(), exact, atol=0.04, rtol=0)
    gap = log_evidence(score, odds) - exact_elbo(fit.guide, score, odds, "graph").item()
    assert 0 <= gap < 0.02


def test_so_have_uncertain_edges_of_a_certain_order():
    weight = [[0.0, 15.0, 1.2], [-15.0, 0.0, 15.0], [-15.0, -15.0, 0.0]]
    score, odds = additive_score(weight), torch.full((D, D), -1.0, dtype=torch.float64)
    exact = exact_edges(score, odds)
    assert 0.3 < exact[0, 2] < 0.7
    fit = fit_dag_guide(score, D, edge_log_odds=-1.0, num_steps=300)
    torch.testing.assert_close(fit.guide.edge_probability().detach(), exact, atol=0.05, rtol=0)


def test_the_result_depends_on_the_seed_alone_and_the_callers_state_is_left():
    options = {"edge_log_odds": -1.0, "num_steps": 20, "num_draws": 4}

    def run(seed):
        guide, elbo = fit_dag_guide(random_score(), D, seed=seed, **options)
        return [*(p.tolist() for p in guide.parameters()), elbo.tolist()]

    torch.manual_seed(5)
    before = random_states()
    first = run(0)
    assert random_states() == before
    torch.manual_seed(6)
    assert run(0) == first != run(1)


def test_a_fit_may_start_near_a_graph():
    graph = random_dag(7, seed=1)
    options = {"edge_log_odds": -1.0, "num_steps": 1, "num_draws": 2, "learning_rate": 1e-9}
    flat = additive_score(np.zeros((7, 7)))
    guide, _ = fit_dag_guide(flat, 7, initial=graph, **options)
    assert torch.equal((guide.edge_probability() > 0.5).float(), graph)
    assert guide.order_loc.argsort(descending=True).tolist() == topological_order(graph).tolist()
    cold, _ = fit_dag_guide(flat, 7, **options)
    off = ~torch.eye(7, dtype=torch.bool)
    expected = torch.full((42,), 0.5 / (1 + math.e), dtype=torch.float64)
    torch.testing.assert_close(cold.edge_probability()[off].detach(), expected)


def test_only_candidates_are_scored_and_certain_edges_stay():
    asked, weight = set(), random_score(seed=1)

    def score(families):
        asked.update(families)
        return weight(families)

    odds = np.full((D, D), -1.0)
    odds[0, 2], odds[2, 1] = CERTAIN, -np.inf
    candidates = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 1, 0]])
    options = {"edge_log_odds": odds, "candidates": candidates, "num_steps": 50, "num_draws": 32}
    for initial in (None, torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])):
        guide, elbo = fit_dag_guide(score, D, initial=initial, **options)
        probability = torch.sigmoid(guide.edge_logits)
        assert probability[0, 2] == 1
        assert probability[2, 1] == probability[1, 0] == probability[2, 0] == 0
        assert np.isfinite(elbo).all()
    assert {f.parents for f in asked if f.variable == 0} == {0}
    assert {f.parents for f in asked if f.variable == 1} <= {0, 0b001}
    assert {f.parents for f in asked if f.variable == 2} <= {0, 0b001, 0b010, 0b011}


def test_variables_may_be_one_or_more_than_an_integer_has_bits():
    guide, _ = fit_dag_guide(
        lambda families: [0.0] * len(families), 1, edge_log_odds=0.0, num_steps=5
    )
    assert guide.edge_probability().tolist() == [[0.0]]
    size, asked = 70, set()

    def score(families):
        asked.update(families)
        return [0.0] * len(families)

    fit_dag_guide(score, size, edge_log_odds=0.0, num_steps=1, num_draws=8)
    assert max(f.parents for f in asked).bit_length() == size
    assert not any(f.parents >> f.variable & 1 for f in asked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_draws": 1}, "num_draws: expected at least 2, got 1"),
        ({"num_steps": 0}, "num_steps: expected at least 1, got 0"),
        ({"bound": "tight"}, "bound: expected 'graph' or 'program', got 'tight'"),
        ({"seed": -1}, "seed: expected"),
        ({"initial": torch.ones(D, D) - torch.eye(D)}, "acyclic"),
        ({"initial": torch.zeros(2, 2)}, r"initial: expected shape \[3, 3\], got \[2, 2\]"),
        ({"candidates": torch.ones(3)}, r"candidates: expected shape \[3, 3\], got \[3\]"),
        ({"edge_log_odds": np.zeros(2)}, r"edge_log_odds: expected .* \[3, 3\], got \[2\]"),
        ({"edge_log_odds": np.nan}, "edge_log_odds: expected numbers, got NaN"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number > 0, got 0.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises((ConfigError, GraphError), match=message):
        fit_dag_guide(random_score(), D, **{"edge_log_odds": -1.0, **options})


def test_a_score_that_is_not_finite_is_named():
    def score(families):
        return [-math.inf if f == Family(1, 0b101) else 0.0 for f in families]

    message = r"score: expected finite values, got -inf for variable 1 with parents \[0, 2\]"
    with pytest.raises(ConfigError, match=message):
        fit_dag_guide(score, D, edge_log_odds=2.0)
