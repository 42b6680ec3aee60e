from functools import partial

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.optim import Adam

from pyro_metacadi.errors import ConfigError, MetaCaDIError
from pyro_metacadi.inference.objective import ELBOObjective, MetaCaDIObjective, PaperObjective
from pyro_metacadi.inference.training import Training, isolated, stream_seed, train
from tests.helpers import build, parameters, random_states, state, tiny_batch, tiny_chain

OPTIONS = Training(num_steps=3, support_size=3, query_size=4)
STEPS, RATE = 3, 0.01


def trained(objective=PaperObjective, **arguments):
    with isolated(0):
        chain = build()
        record = train(
            *chain, tiny_batch(), **{"objective": objective(), "options": OPTIONS, **arguments}
        )
    return chain, record


def by_svi(objective, *, seed):
    """Losses and final parameters of plain Pyro: parameters in the (scoped) global store."""
    with pyro.get_param_store().scope(), torch.random.fork_rng():
        torch.manual_seed(seed)
        chain = build()
        svi = SVI(chain.model, chain.guide, Adam({"lr": RATE}), objective)
        losses = [svi.step(tiny_batch()) for _ in range(STEPS)]
        return losses, {k: p.detach().clone() for k, p in parameters(chain).items()}


def by_module(objective, *, seed):
    """The same with an nn.Module and a torch optimiser."""
    with isolated(seed):
        chain = build()
        module = objective(chain.model, chain.guide)
        optimiser = torch.optim.Adam(list(parameters(chain).values()), lr=RATE)
        losses = []
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss = module(tiny_batch())
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses, {k: p.detach() for k, p in parameters(chain).items()}


@pytest.mark.parametrize("objective", [PaperObjective, ELBOObjective, TraceMeanField_ELBO])
def test_svi_and_a_torch_optimiser_take_the_same_steps(objective):
    svi_losses, svi_parameters = by_svi(objective(), seed=2)
    losses, values = by_module(objective(), seed=2)
    np.testing.assert_allclose(svi_losses, losses, rtol=1e-4)
    torch.testing.assert_close(svi_parameters, values, rtol=1e-4, atol=1e-5)


def test_two_models_train_one_after_the_other_by_svi():
    first = by_svi(PaperObjective(), seed=2)
    by_svi(PaperObjective(), seed=3)
    assert by_svi(PaperObjective(), seed=2)[0] == first[0]


def test_every_parameter_moves_within_a_few_steps():
    with isolated(0):
        before = parameters(build())
        before = {name: value.detach().clone() for name, value in before.items()}
    chain, _ = trained(options=Training(num_steps=5, support_size=3))
    after = parameters(chain)
    assert {name for name in before if torch.equal(before[name], after[name])} == set()
    assert sorted(before) == sorted(name for name, p in after.items() if p.requires_grad)


def test_parameters_of_model_and_guide_have_one_owner():
    chain = tiny_chain()
    everything = list(parameters(chain).values())
    assert len({id(p) for p in everything}) == len(everything)
    assert any(name.startswith("model.mechanisms") for name in parameters(chain))
    assert not any(name.startswith("guide.model") for name in parameters(chain))


def test_the_history_has_every_term_at_every_step():
    _, record = trained()
    assert set(record) == {
        *("loss", "reconstruction", "target_sparsity", "residual_dependence", "graph_kl")
    }
    assert all(values.shape == (3,) and np.isfinite(values).all() for values in record.values())


def test_callbacks_see_every_step_and_its_terms():
    seen = []
    _, record = trained(callbacks=[lambda step, terms: seen.append((step, terms))])
    assert [step for step, _ in seen] == [0, 1, 2]
    for step, terms in seen:
        assert {name: value.item() for name, value in terms.items()} == {
            name: values[step] for name, values in record.items()
        }
        assert not any(value.requires_grad for value in terms.values())


class Exploding(MetaCaDIObjective):
    def weighted_terms(self, model_trace, guide_trace):
        log_prob = model_trace.nodes["x"]["log_prob_sum"]
        return {"fit": (1.0, -log_prob), "fuse": (1.0, log_prob.detach() * float("inf"))}


def test_a_loss_that_is_not_finite_is_named_with_step_and_term():
    with pytest.raises(MetaCaDIError, match=r"expected a finite loss, got -inf at step 0. Lower"):
        trained(Exploding)


def test_divergence_is_named():
    options = Training(num_steps=60, support_size=3, learning_rate=1e20)
    with pytest.raises(MetaCaDIError, match=r"at step \d+. Lower the learning rates"):
        trained(options=options)


class Broken(MetaCaDIObjective):
    def weighted_terms(self, model_trace, guide_trace):
        raise ValueError("mine")


def test_an_error_of_a_users_component_is_left_as_it_is():
    with pytest.raises(ValueError, match=r"^mine$"):
        trained(Broken)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, r"num_steps: expected a number > 0, got 0. The default is \d+"),
        ({"support_size": -1}, r"support_size: expected a number > 0, got -1"),
        ({"query_size": 0}, r"query_size: expected a number > 0, got 0"),
        ({"learning_rate": 0.0}, r"^learning_rate: expected a number > 0, got 0.0"),
        ({"graph_learning_rate": float("nan")}, r"graph_learning_rate: .* got nan"),
        ({"max_norm": -2.0}, r"max_norm: expected a number > 0, got -2.0"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        Training(**options)


def test_isolation_seeds_the_inside_and_restores_the_outside():
    before = random_states()
    draws = []
    for _ in range(2):
        with isolated(5):
            assert pyro.settings.get("module_local_params")
            draws.append(torch.rand(3))
    assert torch.equal(*draws)
    assert random_states() == before


def test_isolation_ends_when_the_inside_fails():
    before = random_states()
    with pytest.raises(KeyError), isolated(5):
        {}[torch.rand(3)]
    assert random_states() == before
    assert not pyro.settings.get("module_local_params")


def test_the_same_seed_trains_to_the_same_bytes():
    assert state(trained()[0]) == state(trained()[0])
    other = partial(trained, options=Training(num_steps=3, support_size=2))
    assert state(other()[0]) != state(trained()[0])


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "0", True, None])
def test_a_seed_that_is_no_whole_number_is_named(seed):
    with pytest.raises(ConfigError, match=r"seed: expected a whole number from 0"):
        stream_seed(seed, "graphs")


def test_every_use_of_a_seed_has_a_stream_of_its_own():
    uses = [(0,), (1,), (0, "graphs"), (0, "targets"), (0, 0), (0, 1), (1, 0)]
    assert len({stream_seed(*use) for use in uses}) == len(uses)
    assert stream_seed(0, "graphs") == stream_seed(np.int64(0), "graphs")
