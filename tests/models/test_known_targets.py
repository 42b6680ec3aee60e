"""Known targets in the paper's program: sites of the model and of the guide have these values."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.inference.objective import ELBOObjective, PaperObjective, target_sparsity
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.stopping import hold_out
from tests.helpers import tiny_chain, traces

KNOWN = np.array([[1, 0, -1], [-1, -1, 1]], dtype=np.int8)


def batch(known=KNOWN):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(n, 3)) for n in (12, 9)]
    return TaskBatch.from_arrays(arrays, known=known)


def split(tasks):
    return tasks.split(3, generator=torch.Generator().manual_seed(0))


def test_model_and_guide_have_the_known_values():
    chain = tiny_chain()
    known = torch.tensor(KNOWN)
    for seed in range(10):
        model_trace, guide_trace = traces(chain, split(batch()), seed=seed)
        with isolated(seed):
            alone = poutine.trace(chain.model).get_trace(split(batch()))
        for trace in (model_trace, guide_trace, alone):
            target = trace.nodes["intervention_target"]["value"].squeeze(-2)
            assert torch.equal(target[known >= 0], known[known >= 0].to(target.dtype))


def test_densities_of_the_site_are_those_of_the_unknown_targets():
    chain = tiny_chain()
    model_trace, guide_trace = traces(chain, split(batch()))
    free_trace = traces(chain, split(batch(None)))[1]
    target = guide_trace.nodes["intervention_target"]["value"].squeeze(-2)
    logits = free_trace.nodes["intervention_target"]["fn"].base_dist.logits.squeeze(-2)
    unknown = torch.tensor(KNOWN) < 0
    prior = torch.full_like(logits, chain.model.target_prior).logit()
    for trace, law in ((model_trace, prior), (guide_trace, logits)):
        expected = dist.Bernoulli(logits=law).log_prob(target)[unknown].sum()
        found = trace.nodes["intervention_target"]["log_prob_sum"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_known_targets_have_no_part_in_the_sparsity(kind):
    guide_trace = traces(tiny_chain(), split(batch()))[1]
    logits = guide_trace.nodes["intervention_target"]["fn"].base_dist.logits
    left = logits[logits.isfinite()]
    size = left.abs() if kind == "logit" else left.sigmoid()
    torch.testing.assert_close(target_sparsity(guide_trace, kind), size.sum() / 2)


@pytest.mark.parametrize("objective", [PaperObjective, ELBOObjective])
def test_losses_and_gradients_are_finite(objective):
    chain = tiny_chain()
    with isolated(0):
        loss = objective()(*chain)(split(batch()))
        loss.backward()
    assert math.isfinite(loss.item())
    for parameter in (*chain.model.parameters(), *chain.guide.parameters()):
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_what_is_known_goes_with_the_tasks_of_a_batch():
    tasks = batch()
    assert torch.equal(split(tasks).known, tasks.known)
    assert tasks.choose(torch.tensor([1])).known.tolist() == [KNOWN[1].tolist()]
    assert torch.equal(tasks.to("cpu").known, tasks.known)
    with isolated(0):
        left, held_out = hold_out(tasks, 0.2, support_size=3)
    assert torch.equal(left.known, tasks.known)
    assert torch.equal(held_out.known, tasks.known)
    assert batch(None).choose(torch.tensor([0])).known is None
