"""A Bernoulli law with some values known: exact draws, no mass of their own, harmless gradients."""

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from pyro_metacadi.distributions import PartlyKnownBernoulli, StraightThroughBernoulli
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.ops.known import with_known

KNOWN = torch.tensor([[1, 0, -1, -1]], dtype=torch.int8)


def law(logits):
    return PartlyKnownBernoulli(with_known(logits, KNOWN))


def logits(requires_grad=False):
    return torch.tensor([[0.3, 2.0, -1.0, 0.5]], requires_grad=requires_grad)


def test_draws_have_the_known_values_and_the_others_are_as_without():
    with isolated(0):
        drawn = law(logits()).sample((500,))
    with isolated(0):
        free = StraightThroughBernoulli(logits()).sample((500,))
    assert (drawn[..., 0] == 1).all()
    assert (drawn[..., 1] == 0).all()
    assert torch.equal(drawn[..., 2:], free[..., 2:])


def test_known_values_have_no_mass_of_their_own_and_the_contrary_is_impossible():
    value = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    expected = dist.Bernoulli(logits=logits()).log_prob(value)
    expected[:, :2] = 0
    torch.testing.assert_close(law(logits()).log_prob(value), expected)
    assert law(logits()).log_prob(1 - value)[0, :2].tolist() == [-torch.inf, -torch.inf]


def test_known_values_add_nothing_to_the_divergence():
    prior = torch.full((1, 4), -2.0)
    expected = kl_divergence(dist.Bernoulli(logits=logits()), dist.Bernoulli(logits=prior))
    expected[:, :2] = 0
    torch.testing.assert_close(kl_divergence(law(logits()), law(prior)), expected)


@pytest.mark.parametrize("what", ["draw", "log_prob", "kl"])
def test_gradients_are_finite_and_none_reaches_known_logits(what):
    own = logits(requires_grad=True)
    with isolated(0):
        value = {
            "draw": lambda: law(own).rsample(),
            "log_prob": lambda: law(own).log_prob(torch.tensor([[1.0, 0.0, 1.0, 0.0]])),
            "kl": lambda: kl_divergence(law(own), law(torch.full((1, 4), -2.0))),
        }[what]()
    value.sum().backward()
    assert own.grad[0, :2].tolist() == [0, 0]
    assert own.grad.isfinite().all()
    assert (own.grad[0, 2:] != 0).all()


def test_expanded_laws_know_the_same():
    wide = law(logits()).expand(torch.Size([3, 4]))
    assert isinstance(wide, PartlyKnownBernoulli)
    assert wide.sample()[:, :2].tolist() == [[1, 0]] * 3
