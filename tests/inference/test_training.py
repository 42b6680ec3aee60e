from functools import partial

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.optim import Adam

from pyro_metacadi.errors import ConfigError, MetaCaDIError
from pyro_metacadi.inference.objective import (
    ELBOObjective,
    MetaCaDIObjective,
    PaperObjective,
    reconstruction,
)
from pyro_metacadi.inference.seeds import isolated, stream_seed
from pyro_metacadi.inference.training import Training, held_out_loss, train
from tests.helpers import build, parameters, random_states, state, tiny_batch, tiny_chain, traces

OPTIONS = Training(num_steps=3, support_size=3, query_size=4, patience=None)
STEPS, RATE = 3, 0.01


def trained(objective=PaperObjective, **arguments):
    with isolated(0):
        chain = build()
        run = train(
            *chain, tiny_batch(), **{"objective": objective(), "options": OPTIONS, **arguments}
        )
    return chain, run.history


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


def plateau(*, num_steps=60, seed=0, **options):
    """A run whose losses must fall by so much that they soon do not."""
    with isolated(seed):
        chain = build()
        stop = {"patience": 3, "check_every": 2, "tolerance": 100.0, **options}
        training = Training(num_steps=num_steps, support_size=3, **stop)
        return chain, train(*chain, tiny_batch(), objective=PaperObjective(), options=training)


def test_training_stops_once_the_held_out_loss_does_not_fall():
    _, run = plateau()
    assert run.converged is True
    assert {len(values) for values in run.history.values()} == {10}  # at 0, 2, 4, 6; cool-down of 3
    held_out = run.history["held_out"]
    assert np.isfinite(held_out).all()
    assert (held_out[:-1:2] == held_out[1::2]).all()


def test_training_that_runs_out_of_steps_has_not_converged():
    _, run = plateau(num_steps=8, tolerance=1e-9, patience=9)
    assert run.converged is False
    assert len(run.history["loss"]) == 8


def test_training_that_stops_early_is_the_same_for_the_same_seed():
    (first, run), (second, again) = plateau(), plateau()
    assert state(first) == state(second)
    assert run.history["loss"].tobytes() == again.history["loss"].tobytes()


def test_measuring_the_held_out_loss_leaves_training_as_it_is():
    often, seldom = (plateau(check_every=every, num_steps=6, patience=9) for every in (1, 5))
    assert state(often[0]) == state(seldom[0])
    assert len(set(often[1].history["held_out"])) == 6
    assert len(set(seldom[1].history["held_out"])) == 2


def test_the_held_out_loss_is_the_mean_over_draws_of_the_guide():
    chain, batch = tiny_chain(), tiny_batch()
    before = random_states()
    first = held_out_loss(*chain, batch)
    assert first == held_out_loss(*chain, batch)
    assert random_states() == before
    rng = [reconstruction(traces(chain, batch, seed=seed)[0]).item() for seed in range(400)]
    assert first == pytest.approx(np.mean(rng), abs=5 * np.std(rng) / np.sqrt(8))


def test_tasks_too_small_to_hold_rows_out_train_without():
    with isolated(0):
        chain = build()
        batch = tiny_batch(rows=(2, 1))
        run = train(*chain, batch, objective=PaperObjective(), options=Training(num_steps=3))
    assert run.converged is None
    assert "held_out" not in run.history
    assert len(run.history["loss"]) == 3


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
        ({"patience": 0}, r"patience: expected a number > 0, got 0. The default is \d+"),
        ({"patience": 2.5}, r"patience: expected a whole number > 0, got 2.5"),
        ({"check_every": 0}, r"check_every: expected a number > 0, got 0"),
        ({"check_every": None}, r"check_every: expected a whole number > 0, got None"),
        ({"tolerance": 0.0}, r"tolerance: expected a number > 0, got 0.0"),
        ({"held_out": 0.0}, r"held_out: expected a number > 0, got 0.0"),
        ({"held_out": 1.0}, r"held_out: expected a share below 1, got 1.0. The default is 0.1"),
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
