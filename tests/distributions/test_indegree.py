"""Edges under a limit of parents, against sums over every set of edges."""

import itertools

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from pyro_metacadi.distributions import FewParents
from pyro_metacadi.inference.seeds import isolated
from tests.helpers import random_dag

D = 3
EDGES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=D * D))).reshape(-1, D, D).double()


def law(seed=0, *, room=(1, 0, 2), draws=()):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(D, D, generator=generator, dtype=torch.float64).requires_grad_()
    counts = torch.rand(*draws, D, D, generator=generator) < 0.7
    free = ~torch.eye(D, dtype=torch.bool)
    free[0, 2] = seed % 2 == 0
    return FewParents(logits, counts=counts, free=free, room=torch.tensor(room).double())


def reference(found):
    """Mass of every set of edges that are free; 0 where another is there."""
    counts, free = found.counts, found.free
    weight = (EDGES * found.logits.detach()).sum((-1, -2)).exp()
    allowed = ((EDGES * counts).sum(-2) <= found.room).all(-1) & (
        (EDGES * ~free).sum((-1, -2)) == 0
    )
    weight = weight * allowed
    return weight / weight.sum()


@pytest.mark.parametrize("seed", range(4))
def test_masses_means_and_draws_are_those_of_enumeration(seed):
    found, mass = law(seed), reference(law(seed))
    some = ((EDGES * ~found.free).sum((-1, -2)) == 0).nonzero().squeeze(-1)
    torch.testing.assert_close(found.log_prob(EDGES[some]).exp().detach(), mass[some])
    mean = torch.einsum("e,eij->ij", mass, EDGES)
    torch.testing.assert_close(found.mean.detach(), mean)
    with isolated(seed):
        drawn = found.sample([20_000]) * found.free
    assert ((drawn * found.counts).sum(-2) <= found.room).all()
    assert (drawn.mean(0) - mean).abs().max() < 0.02
    together = torch.einsum("e,eij,ekl->ijkl", mass, EDGES, EDGES)
    found_together = torch.einsum("eij,ekl->ijkl", drawn, drawn) / len(drawn)
    assert (together - found_together).abs().max() < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_the_kl_and_its_gradient_are_those_of_enumeration(seed):
    q, p = law(seed), law(seed)
    p.logits = torch.zeros(D, D, dtype=torch.float64) - 1
    allowed = reference(q) > 0
    log_q, log_p = q.log_prob(EDGES[allowed]), p.log_prob(EDGES[allowed])
    exact = (log_q.exp() * (log_q - log_p)).sum()
    closed = kl_divergence(q, p)
    torch.testing.assert_close(closed, exact)
    gradients = [torch.autograd.grad(value, q.logits)[0] for value in (closed, exact)]
    torch.testing.assert_close(*gradients)


def test_laws_of_other_pairs_have_no_closed_kl():
    with pytest.raises(NotImplementedError):
        kl_divergence(law(0), law(1))


def test_without_a_limit_that_matters_edges_are_independent():
    found = law(room=(3, 3, 3))
    plain = dist.Bernoulli(logits=found.logits).mask(found.free).to_event(2)
    torch.testing.assert_close(found.log_prob(EDGES), plain.log_prob(EDGES))


def test_many_draws_are_each_draw():
    found = law(draws=(5, 1))
    assert (found.batch_shape, found.event_shape) == ((5, 1), (D, D))
    for i in range(5):
        one = FewParents(
            found.logits, counts=found.counts[i, 0], free=found.free, room=found.room.double()
        )
        torch.testing.assert_close(found.mean[i, 0], one.mean)
        torch.testing.assert_close(found.log_prob(EDGES[3])[i, 0], one.log_prob(EDGES[3]))
    wide = found.expand([2, 5, 1])
    assert wide.sample().shape == wide.rsample().shape == (2, 5, 1, D, D)
    assert wide.log_prob(wide.sample()).isfinite().all()


@pytest.mark.parametrize("size", [2, 12])
def test_draws_and_gradients_are_finite_at_extreme_logits(size):
    counts = random_dag(size, seed=1).bool()
    free = ~torch.eye(size, dtype=torch.bool)
    for scale in (0.0, 1.0, 60.0, 1e4):
        with isolated(0):
            logits = (scale * torch.randn(size, size)).requires_grad_()
            room = torch.randint(0, 3, (size,)).float()
            found = FewParents(logits, counts=counts, free=free, room=room)
            value = found.rsample([3])
        assert ((value == 0) | (value == 1)).all()
        assert ((value * counts).sum(-2) <= room).all()
        prior = FewParents(torch.zeros_like(logits), counts=counts, free=free, room=room)
        loss = value.sum() + kl_divergence(found, prior) + found.log_prob(value.detach()).sum()
        assert torch.autograd.grad(loss, logits)[0].isfinite().all()
