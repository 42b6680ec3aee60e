"""Hubs: the law of a row's edges, against sums over every set of them."""

import itertools
import math

import pytest
import torch
from torch.distributions import kl_divergence

from pyro_metacadi.distributions import ScaleFreeEdges, StraightThroughBernoulli
from pyro_metacadi.inference.seeds import isolated

D = 3
OFF = ~torch.eye(D, dtype=torch.bool)


def law(exponent=2.0, size=D):
    return ScaleFreeEdges(size, exponent=torch.tensor(exponent, dtype=torch.float64))


def every():
    edges = torch.zeros(2**6, D, D, dtype=torch.float64)
    choices = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)), dtype=torch.float64)
    edges[:, OFF] = choices
    return edges


@pytest.mark.parametrize("exponent", [0.0, 1.0, 3.5])
def test_masses_are_the_formula_and_sum_to_one(exponent):
    mass = law(exponent).log_prob(every()).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-12)
    total = sum((1 + k) ** -exponent for k in range(D))
    for edges, found in zip(every(), mass, strict=True):
        rows = edges.sum(-1).int().tolist()
        expected = math.prod((1 + k) ** -exponent / total / math.comb(D - 1, k) for k in rows)
        assert found.item() == pytest.approx(expected)


def test_the_diagonal_does_not_count():
    edges = every()[5]
    assert law().log_prob(edges) == law().log_prob(edges + torch.eye(D))


@pytest.mark.parametrize("exponent", [0.0, 2.0])
def test_masses_of_graphs_are_sums_over_edges_against_the_order(exponent):
    for order in itertools.permutations([0.0, 1.0, 2.0]):
        score = torch.tensor(order)
        forward = score.unsqueeze(-1) > score
        graphs, of = (every() * forward).unique(dim=0, return_inverse=True)
        mass = law(exponent).log_prob(every()).exp()
        summed = torch.zeros(len(graphs), dtype=mass.dtype).index_add(0, of, mass)
        found = law(exponent).graph_log_prob(graphs, score.expand(len(graphs), -1)).exp()
        torch.testing.assert_close(found, summed)


def test_numbers_of_edges_of_draws_follow_the_power_law():
    with isolated(0):
        drawn = law(2.0, size=9).sample([5000])
    assert not drawn.diagonal(dim1=-1, dim2=-2).any()
    number = drawn.sum(-1).flatten().long()
    frequency = torch.bincount(number, minlength=9) / number.numel()
    assert (frequency - law(2.0, size=9).log_number.exp()).abs().max() < 0.01
    assert (drawn.mean((0, 1))[:4].std() < 0.02).all()


def guide(logits):
    return StraightThroughBernoulli(logits).mask(OFF).to_event(2)


def test_the_kl_of_independent_edges_and_its_gradient_are_those_of_enumeration():
    with isolated(0):
        logits = torch.randn(D, D, dtype=torch.float64).requires_grad_()
    log_q, log_p = guide(logits).log_prob(every()), law().log_prob(every())
    exact = (log_q.exp() * (log_q - log_p)).sum()
    closed = kl_divergence(guide(logits), law())
    torch.testing.assert_close(closed, exact)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (closed, exact)]
    torch.testing.assert_close(*gradients)


def test_other_laws_have_no_closed_kl():
    normal = torch.distributions.Normal(torch.zeros(D, D), 1.0)
    with pytest.raises(NotImplementedError):
        kl_divergence(torch.distributions.Independent(normal, 2), law())


def test_the_law_can_be_expanded():
    wide = law().expand(torch.Size([4, 1]))
    assert wide.sample().shape == (4, 1, D, D)
    assert wide.log_prob(wide.sample()).shape == (4, 1)
    assert wide.log_prob(every()[3]).shape == ()
