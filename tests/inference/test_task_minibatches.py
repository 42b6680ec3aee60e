"""Steps that see some of the tasks: their gradient is, on average, that of all."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_metacadi.inference.objective import ELBOObjective, PaperObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import Training, train
from pyro_metacadi.models.metacadi import task_plate
from tests.helpers import build, parameters, tiny_batch, tiny_chain

SIZES = (9, 6, 9, 7)
OPTIONS = Training(num_steps=4, support_size=3, query_size=4, patience=None)


def batch_of_all():
    return tiny_batch(rows=SIZES)


def loss_and_gradients(chain, objective, batch, values):
    """With every site given: nothing but the choice of tasks is random."""
    model, guide = pyro.condition(chain.model, values), chain.guide.given(values)
    with isolated(0):
        loss = objective(model, guide)(batch)
        tensors = list(parameters(chain).values())
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    return [loss.detach(), *(torch.zeros(()) if one is None else one for one in gradients)]


@pytest.mark.parametrize("objective", [PaperObjective, ELBOObjective, TraceMeanField_ELBO])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_mean_over_all_choices_of_tasks_is_the_value_of_all(objective, number):
    chain, everything = tiny_chain(), batch_of_all()
    with isolated(3):
        values = {name: value.detach() for name, value in chain.guide(everything).items()}
    full = loss_and_gradients(chain, objective(), everything, values)
    choices = [torch.tensor(c) for c in combinations(range(len(SIZES)), number)]
    found = []
    for index in choices:
        given = {
            name: value if name in ("order_score", "edge") else value[index]
            for name, value in values.items()
        }
        found.append(loss_and_gradients(chain, objective(), everything.choose(index), given))
    for whole, parts in zip(full, zip(*found, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(0), whole, rtol=1e-4, atol=1e-4)
    # One choice alone is not enough: else all of this would say nothing.
    assert not torch.allclose(found[0][0], full[0], rtol=1e-4)


def test_chosen_tasks_are_those_tasks_and_stand_for_all():
    everything, index = batch_of_all(), torch.tensor([2, 0])
    some = everything.choose(index)
    assert (some.num_tasks, some.population) == (2, 4)
    for name in ("x", "mask", "support", "support_mask"):
        torch.testing.assert_close(getattr(some, name), getattr(everything, name)[index])
    assert some.choose(torch.tensor([1])).population == 4
    assert some.split(2).population == some.to("cpu").population == 4
    assert everything.population is None


@pytest.mark.parametrize(("index", "scale"), [([0, 1, 3], 4 / 3), ([2], 4.0)])
def test_densities_of_some_tasks_are_scaled_up(index, scale):
    with task_plate(batch_of_all().choose(torch.tensor(index))) as tasks:
        assert len(tasks) == len(index)
        site = pyro.poutine.trace(
            lambda: pyro.sample("z", pyro.distributions.Normal(0, 1))
        ).get_trace()
        assert site.nodes["z"]["scale"] == pytest.approx(scale)


def test_training_sees_other_tasks_in_every_step_and_no_more_than_asked():
    seen = []

    class Recording(PaperObjective):
        def weighted_terms(self, model_trace, guide_trace):
            seen.append(model_trace.nodes["x"]["value"].shape[0])
            return super().weighted_terms(model_trace, guide_trace)

    def run(number):
        with isolated(0):
            chain = build()
            options = replace(OPTIONS, tasks_per_step=number)
            train(*chain, batch_of_all(), objective=Recording(), options=options)
        return parameters(chain)

    few, all_tasks, more = run(2), run(None), run(9)
    assert seen == [2] * 4 + [4] * 8
    torch.testing.assert_close(all_tasks, more)
    assert any(not torch.equal(few[name], all_tasks[name]) for name in few)


def test_the_held_out_loss_is_measured_with_some_tasks_too():
    with isolated(0):
        chain = build()
        run = train(
            *chain,
            batch_of_all(),
            objective=PaperObjective(),
            options=Training(num_steps=6, support_size=3, tasks_per_step=1, check_every=2),
        )
    assert np.isfinite(run.history["held_out"]).all()
