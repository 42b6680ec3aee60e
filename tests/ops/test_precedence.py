"""Orders with something prescribed: never broken, with the law of Plackett and Luce."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.distributions import PlackettLuce
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.ops.constraints import GraphConstraints
from pyro_metacadi.ops.graphs import is_dag, order_ranks
from pyro_metacadi.ops.precedence import Precedence, transitive_closure
from pyro_metacadi.ops.relax import adjacency_from_order
from tests.helpers import random_dag

SEEDS = st.integers(0, 2**32)
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def relation(size, *, seed):
    return random_dag(size, seed=seed).bool()


def orders(size):
    return torch.tensor(list(itertools.permutations(range(size))))


def one_by_one(order, score, before):
    """Mass of an order: each next variable by softmax among those that may come."""
    left, mass = set(range(len(score))), 1.0
    for chosen in order:
        free = [j for j in left if not any(before[i, j] for i in left)]
        if chosen not in free:
            return 0.0
        mass *= math.exp(score[chosen]) / sum(math.exp(score[j]) for j in free)
        left.remove(chosen)
    return mass


@given(size=st.integers(1, 8), seed=SEEDS)
def test_the_closure_has_a_pair_where_there_is_a_path(size, seed):
    edges = relation(size, seed=seed)
    paths = sum(torch.linalg.matrix_power(edges.double(), k) for k in range(1, size + 1))
    assert torch.equal(transitive_closure(edges), paths > 0)


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=st.integers(2, 20), seed=SEEDS, scale=st.sampled_from([0.0, 1e-3, 1.0, 100.0, 1e5]))
def test_what_is_prescribed_holds_in_every_precision(dtype, size, seed, scale):
    prescribed = Precedence(relation(size, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    score = (scale * torch.randn(5, size, generator=generator)).to(dtype).requires_grad_()
    rank = prescribed.ranks(score.detach())
    assert (rank.sort().values == torch.arange(size)).all()
    earlier = rank.unsqueeze(-1) < rank.unsqueeze(-2)
    assert earlier[:, prescribed.before].all()
    edge = torch.ones(5, size, size, dtype=dtype)
    adjacency = adjacency_from_order(score, edge, prescribed=prescribed)
    assert all(is_dag(graph) for graph in adjacency.detach())
    adjacency.sum().backward()
    assert score.grad.isfinite().all()


@given(size=st.integers(1, 9), seed=SEEDS)
def test_without_anything_prescribed_it_is_the_order_of_the_scores(size, seed):
    score = torch.randn(4, size, generator=torch.Generator().manual_seed(seed))
    nothing = Precedence(torch.zeros(size, size, dtype=torch.bool))
    assert torch.equal(nothing.arrival(score), score)
    assert torch.equal(nothing.ranks(score), order_ranks(score))


@given(size=st.integers(2, 9), seed=SEEDS)
def test_tiers_keep_the_order_of_the_scores_within_each(size, seed):
    generator = torch.Generator().manual_seed(seed)
    tier = torch.randint(3, (size,), generator=generator)
    score = torch.randn(size, generator=generator)
    rank = Precedence(tier.unsqueeze(-1) < tier).ranks(score)
    expected = sorted(range(size), key=lambda i: (tier[i].item(), -score[i].item()))
    assert rank.argsort().tolist() == expected


def test_what_is_settled_has_no_gradient_and_the_rest_has():
    prescribed = Precedence(torch.tensor([[0, 1, 0], [0, 0, 0], [0, 0, 0]]).bool())
    score = torch.tensor([0.3, -0.2, 0.1], requires_grad=True)
    for edge, has in ((torch.tensor([[0.0, 1, 0], [0, 0, 0], [0, 0, 0]]), False), (None, True)):
        edge = torch.ones(3, 3) if edge is None else edge
        loss = adjacency_from_order(score, edge, prescribed=prescribed)
        weight = torch.arange(9.0).reshape(3, 3)
        (gradient,) = torch.autograd.grad((loss * weight).sum(), score)
        assert bool(gradient.any()) is has


@pytest.mark.parametrize("seed", range(6))
def test_the_mass_of_an_order_is_that_of_choosing_one_by_one(seed):
    before = relation(4, seed=seed)
    score = torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    law = PlackettLuce(score, prescribed=Precedence(before))
    expected = [one_by_one(order, score.tolist(), before) for order in orders(4).tolist()]
    found = law.log_prob(orders(4)).exp()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    with isolated(seed):
        drawn = law.sample([20_000])
    code = 4 ** torch.arange(4)
    frequency = [(drawn @ code == order @ code).double().mean() for order in orders(4)]
    assert (torch.stack(frequency) - found).abs().max() < 0.02


FORESTS = {
    "nothing": {},
    "tiers": {"tiers": [[2], [0, 3], [1]]},
    "a chain": {"required": [(0, 1), (1, 2)]},
    "two children": {"required": [(0, 1), (0, 2)]},
    "two trees": {"required": [(0, 1), (2, 3)]},
    "a chain within a tier": {"tiers": [[0, 1, 2], [3]], "required": [(1, 0), (0, 3)]},
}


@pytest.mark.parametrize("case", FORESTS)
def test_orders_are_equally_probable_where_each_has_one_predecessor_in_its_tier(case):
    demands = GraphConstraints(["A", "B", "C", "D"], **FORESTS[case])
    law = PlackettLuce(demands.order_loc.double(), prescribed=demands.prescribed)
    mass = law.log_prob(orders(4)).exp()
    allowed = mass[mass > 0]
    torch.testing.assert_close(
        allowed, torch.full_like(allowed, 1 / len(allowed)), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_kl_of_orders_is_that_of_enumeration_on_average(seed):
    prescribed = Precedence(torch.tensor([[0, 0, 1, 0]] + [[0] * 4] * 3).bool())
    generator = torch.Generator().manual_seed(seed)
    score, prior = (torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(2))
    score.requires_grad_()
    q, p = (PlackettLuce(loc, prescribed=prescribed) for loc in (score, prior))
    log_q, log_p = q.log_prob(orders(4)), p.log_prob(orders(4))
    some = log_q.isfinite()
    exact = (log_q[some].exp() * (log_q[some] - log_p[some])).sum()
    with isolated(seed):
        value = q.kl_to(p, num_samples=200_000)
    assert value.item() == pytest.approx(exact.item(), abs=0.02)
    gradients = [torch.autograd.grad(v, score)[0] for v in (value, exact)]
    torch.testing.assert_close(*gradients, atol=0.02, rtol=0)
