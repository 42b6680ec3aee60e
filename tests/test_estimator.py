from functools import partial

import numpy as np
import pyro
import pytest
import torch

from pyro_metacadi import MetaCaDI, TaskDataset, simulators
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIError, MetaCaDIWarning
from pyro_metacadi.inference.convergence import chains_agree
from pyro_metacadi.inference.objective import PaperObjective
from pyro_metacadi.inference.training import Training
from pyro_metacadi.models import GaussianNoise, SparseGraphPrior
from tests.helpers import (
    evidence_estimator,
    evidence_fit,
    fitted,
    random_states,
    state,
    tiny_estimator,
    tiny_tasks,
)


def fit(*, tasks=None, num_steps=3, **options):
    return tiny_estimator().fit(
        tasks or tiny_tasks(), num_steps=num_steps, progress=False, **options
    )


def new_tasks():
    return tiny_tasks(rows=(3, 2, 1, 10), seed=9)


def states(model):
    return [state(chain) for chain in model._fit.chains]


def test_the_same_seed_gives_the_same_bytes():
    first, second, other = fit(seed=3), fit(seed=3), fit(seed=4)
    assert states(first) == states(second) != states(other)
    for name in ("edge_probs", "target_probs"):
        probabilities = [getattr(m.posterior, name).values for m in (first, second, other)]
        assert probabilities[0].tobytes() == probabilities[1].tobytes()
        assert probabilities[0].tobytes() != probabilities[2].tobytes()
    adapted = [m.adapt(new_tasks()).target_probs.values.tobytes() for m in (first, second)]
    assert adapted[0] == adapted[1]


def test_the_callers_random_state_and_pyros_store_and_settings_are_untouched():
    def snapshot():
        return (
            random_states(),
            pyro.settings.get(),
            dict(pyro.get_param_store()),
        )

    pyro.param("mine", torch.ones(2))
    try:
        before = snapshot()
        model = fit(num_chains=2)
        model.adapt(new_tasks()).sample(3)
        assert repr(snapshot()) == repr(before)
    finally:
        pyro.clear_param_store()


@pytest.mark.parametrize("num_chains", [1, 2])
def test_the_history_has_loss_and_terms_by_name(num_chains):
    history = fit(num_chains=num_chains).history
    assert set(history) == {
        *("loss", "reconstruction", "target_sparsity", "residual_dependence", "graph_kl")
    }
    assert {v.shape for v in history.values()} == {(3,) if num_chains == 1 else (2, 3)}
    assert all(np.isfinite(values).all() for values in history.values())


STOPPING = Training(num_steps=60, support_size=3, patience=2, check_every=2, tolerance=100.0)


def test_training_stops_at_a_plateau_and_says_that_it_converged():
    model = tiny_estimator(training=STOPPING).fit(tiny_tasks(), progress=False)
    assert model.converged is True
    assert len(model.history["loss"]) == len(model.history["held_out"]) < 60


@pytest.mark.parametrize("num_chains", [1, 2])
def test_training_without_a_plateau_is_warned_about(num_chains):
    model = tiny_estimator(training=STOPPING)
    with pytest.warns(MetaCaDIWarning, match=r"fit: .* still fell after 3 steps. Pass a larger"):
        model.fit(tiny_tasks(), num_steps=3, num_chains=num_chains, progress=False)
    assert model.converged is False
    assert model.history["loss"].shape[-1] == 3


def test_training_that_holds_nothing_out_cannot_tell():
    assert fit().converged is None
    model = tiny_estimator(training=Training(num_steps=2))
    assert model.fit(tiny_tasks(rows=(2, 2, 2)), progress=False).converged is None


def test_the_history_of_chains_that_stopped_at_different_steps_ends_with_nan():
    options = Training(num_steps=80, support_size=3, patience=1, check_every=1, tolerance=1e-9)
    model = tiny_estimator(training=options)
    model.fit(tiny_tasks(), num_chains=3, seed=1, progress=False)
    lengths = [len(record["loss"]) for record in model._fit.history]
    assert len(set(lengths)) > 1, "choose another seed"
    for values in model.history.values():
        assert values.shape == (3, max(lengths))
        assert [int(np.isfinite(v).sum()) for v in values] == lengths
        assert all(np.isfinite(v[:n]).all() for v, n in zip(values, lengths, strict=True))


def test_markov_chains_converged_if_they_agree_and_one_chain_cannot_tell():
    model = evidence_fit(2)
    scores = np.stack([chain.log_score.numpy() for chain in model._fit.chains])
    assert model.converged is chains_agree(scores) is not None
    assert evidence_fit(1).converged is None


def test_markov_chains_that_do_not_agree_are_warned_about(monkeypatch):
    monkeypatch.setattr("pyro_metacadi.engines.evidence.chains_agree", lambda scores: False)
    model = evidence_estimator(num_draws=5, warmup=0)
    with pytest.warns(MetaCaDIWarning, match=r"fit: expected chains that agree .* after 5 draws"):
        model.fit(tiny_tasks(rows=(12, 12, 12, 30)), progress=False)
    assert model.converged is False


def test_fit_returns_the_model_and_calls_back():
    steps, model = [], tiny_estimator()
    result = model.fit(
        tiny_tasks(), num_steps=2, progress=False, callbacks=[lambda s, terms: steps.append(s)]
    )
    assert result is model
    assert steps == [0, 1]
    assert model.variables == ("X1", "X2", "X3")


def test_a_model_says_what_it_is():
    model = tiny_estimator()
    assert repr(model) == "<MetaCaDI: engine 'svi', not fitted>"
    model.fit(tiny_tasks(), num_steps=3, num_chains=2, progress=False)
    assert repr(model) == "<MetaCaDI: engine 'svi', 4 tasks, 3 variables, 2 chain(s)>"


def test_a_failing_callback_leaves_an_earlier_fit_intact():
    model = fit()
    before, probabilities = states(model), model.posterior.target_probs

    def fail(step, terms):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model.fit(tiny_tasks(seed=5), num_steps=2, progress=False, callbacks=[fail])
    assert states(model) == before
    assert model.posterior.target_probs is probabilities


def test_fitting_again_replaces_the_posterior():
    model = fit()
    before = model.posterior
    model.fit(tiny_tasks(seed=5), num_steps=2, progress=False)
    assert model.posterior is not before
    assert len(model.history["loss"]) == 2


def test_chains_are_restarts_of_consecutive_seeds():
    both, second = fit(num_chains=2, seed=3), fit(seed=4)
    assert states(both)[1] == states(second)[0]
    assert states(both)[0] != states(both)[1]


def test_adapting_changes_nothing_in_the_model_and_needs_no_gradient():
    model = fit()
    before, posterior, (chain,) = states(model), model.posterior, model._fit.chains
    for part in chain:
        part.zero_grad()
    first = model.adapt(new_tasks()).target_probs
    assert first.identical(model.adapt(new_tasks()).target_probs)
    model.adapt(new_tasks()).sample(3)
    assert states(model) == before
    assert model.posterior is posterior
    assert all(p.grad is None for part in chain for p in part.parameters())


UNITS = r"got up to 3 of 3 beyond, in all rows of task 'task2'\. Are they in the same units\?"


def test_a_task_in_other_units_is_told_of_and_one_that_is_far_off_is_not():
    model = fitted()
    one = new_tasks().values
    high, wide = model.posterior.tasks.values.max(0), np.ptp(model.posterior.tasks.values, axis=0)
    one_far = one + np.array([3.0, 0, 0]) * wide
    other = high + wide + np.abs(one)
    tasks = TaskDataset.from_arrays([one_far, other], variables=model.posterior.tasks.variables)
    with pytest.warns(MetaCaDIWarning, match=UNITS) as caught:
        model.adapt(tasks)
    assert __file__ in {warning.filename for warning in caught}
    mixed = np.vstack([other[:-1], one[:1]])  # one row that is ordinary
    model.adapt(TaskDataset.from_arrays([mixed], variables=tasks.variables))


@pytest.mark.parametrize("num_chains", [1, 2])
def test_twenty_tasks_together_equal_one_by_one(num_chains):
    tasks = tiny_tasks(rows=(10, 3, 1, 7, 2) * 4, seed=2)
    together = fitted(num_chains).adapt(tasks).target_probs
    for position, task in enumerate(tasks):
        alone = fitted(num_chains).adapt(task).target_probs
        np.testing.assert_allclose(together[position], alone[0], atol=1e-6, rtol=0)


def test_tasks_of_one_to_three_rows_give_finite_probabilities():
    result = fitted().adapt(new_tasks())
    assert np.isfinite(result.target_probs).all()
    assert np.isfinite(result.log_likelihood(num_draws=3)).all()


def test_columns_in_another_order_give_the_same_result():
    tasks = new_tasks()
    shuffled = tasks.select(["X3", "X1", "X2"])
    expected, found = (fitted().adapt(t) for t in (tasks, shuffled))
    assert found.target_probs.identical(expected.target_probs)
    assert found.rank_targets().equals(expected.rank_targets())


def test_the_same_rows_in_another_order_give_the_same_result():
    rows = new_tasks().arrays[3]
    first, second = (TaskDataset.from_arrays([r]) for r in (rows, rows[::-1]))
    np.testing.assert_allclose(
        *(fitted().adapt(t).target_probs for t in (first, second)), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (["X1", "X2", "Y"], r"expected the same 3 names, got 'X3' missing and 'Y' unknown"),
        (["X1", "X2"], r"got 'X3' missing and none unknown"),
        (["X1", "X2", "X3", "Y"], r"got none missing and 'Y' unknown"),
    ],
)
def test_other_variables_are_named(variables, message):
    tasks = TaskDataset.from_arrays([np.zeros((4, len(variables)))], variables=variables)
    with pytest.raises(DataError, match=message):
        fitted().adapt(tasks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "magic"}, r"engine: expected 'evidence' or 'svi', got 'magic'"),
        ({"objective": "lasso"}, r"objective: expected one of 'paper', 'elbo'"),
        ({"objective": PaperObjective()}, r"objective: expected a class"),
        ({"target_prior": 0.0}, r"target_prior: expected a probability between 0 and 1, got 0"),
        ({"target_prior": 2.0}, r"target_prior: expected a probability between 0 and 1, got 2"),
        ({"noise": GaussianNoise(3, 5)}, r"noise: .* Pass the class, not an instance"),
        ({"graph_prior": SparseGraphPrior(3)}, r"graph_prior: .* Pass the class, not an instance"),
        ({"graph_prior": "sparse"}, r"graph_prior: expected a probability"),
    ],
)
def test_bad_choices_are_named_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        MetaCaDI(**{"engine": "svi", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph_prior": 1.5}, r"graph_prior: expected probabilities strictly between 0 and 1"),
        (
            {"graph_prior": np.full((2, 2), 0.5)},
            r"graph_prior: .* matrix \[3, 3\] .* shape \[2, 2\]",
        ),
        ({"noise": partial(GaussianNoise, scale=-1.0)}, r"scale: expected a number > 0, got -1"),
    ],
)
def test_choices_that_do_not_fit_the_data_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        tiny_estimator(**options).fit(tiny_tasks(), progress=False)


without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, r"num_steps: expected a number > 0, got 0"),
        ({"num_chains": 0}, r"num_chains: expected at least 1, got 0"),
        ({"num_chains": 1.5}, r"num_chains: expected a whole number, got 1.5"),
        ({"num_chains": "2"}, r"num_chains: expected a whole number, got '2'"),
        ({"num_chains": True}, r"num_chains: expected a whole number, got True"),
        ({"callbacks": None}, r"callbacks: expected a list of functions .* got None"),
        ({"callbacks": print}, r"callbacks: expected a list of functions .* got <built-in"),
        ({"callbacks": [1]}, r"callbacks: expected a list of functions .* got \[1\]"),
        ({"seed": -1}, r"seed: expected a whole number from 0 to 2\*\*64 - 1, got -1"),
        ({"seed": "0"}, r"seed: expected a whole number .* got '0'"),
        ({"device": None}, r"device: expected 'auto', 'cpu' or 'cuda', got None"),
        ({"device": "cuda:-1"}, r"device: expected 'auto', 'cpu' or 'cuda', got 'cuda:-1'"),
        ({"device": "nonsense"}, r"device: expected 'auto', 'cpu' or 'cuda', got 'nonsense'"),
        ({"device": "meta"}, r"device: expected 'auto', 'cpu' or 'cuda', got 'meta'"),
        ({"device": "cuda:99"}, r"device: expected one that exists, got 'cuda:99'"),
        pytest.param(
            {"device": "cuda"}, r"exists, got 'cuda'. Use device='cpu'", marks=without_cuda
        ),
    ],
)
def test_bad_arguments_of_fit_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        tiny_estimator().fit(tiny_tasks(), progress=False, **options)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.posterior,
        lambda model: model.history,
        lambda model: model.converged,
        lambda model: model.variables,
        lambda model: model.adapt(tiny_tasks()),
        lambda model: model.save("nowhere"),
    ],
)
def test_an_unfitted_model_says_so(use):
    with pytest.raises(MetaCaDIError, match=r"expected a fitted model. Call .fit\(tasks\) first"):
        use(MetaCaDI())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_graphs": 0}, r"num_graphs: expected at least 1, got 0"),
        ({"num_graphs": 1.5}, r"num_graphs: expected a whole number, got 1.5"),
        ({"num_graphs": True}, r"num_graphs: expected a whole number, got True"),
        ({"seed": "a"}, r"seed: expected a whole number .* got 'a'"),
        ({"seed": 2**64}, r"seed: expected a whole number .* got 18446744073709551616"),
    ],
)
def test_bad_arguments_of_adapt_are_named_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        fitted().adapt(new_tasks(), **options)


@pytest.mark.parametrize("tasks", [None, [np.ones((3, 3))], np.ones((3, 3)), "rows.csv"])
@pytest.mark.parametrize("use", [tiny_estimator().fit, fitted().adapt])
def test_what_is_no_dataset_is_refused_with_the_way_to_make_one(use, tasks):
    message = r"tasks: expected a TaskDataset, got \w+. Use TaskDataset.from_arrays"
    with pytest.raises(DataError, match=message):
        use(tasks)


def test_a_world_is_told_to_pass_its_tasks():
    world = simulators.gp_anm(num_variables=3, num_tasks=2, num_samples=4, seed=0)
    with pytest.raises(DataError, match=r"expected a TaskDataset, got World. Pass its .tasks"):
        fitted().adapt(world)


def test_the_seed_after_the_largest_is_zero():
    both, first = fit(num_chains=2, seed=2**64 - 1), fit(seed=0)
    assert states(both)[1] == states(first)[0]


def test_collapsed_targets_are_warned_about():
    class Everything(PaperObjective):
        def weighted_terms(self, model_trace, guide_trace):
            logits = guide_trace.nodes["intervention_target"]["fn"].base_dist.logits
            return {"greed": (1.0, -logits.sum())}

    with pytest.warns(MetaCaDIWarning, match=r"targets: expected few per task, got a mean prob"):
        tiny_estimator(objective=Everything).fit(tiny_tasks(), num_steps=200, progress=False)


def test_fewer_rows_than_parents_are_warned_about():
    tasks = tiny_tasks(num_variables=6)
    model = tiny_estimator().fit(tasks, num_steps=2, progress=False)
    assert 1 < float(model.posterior.edge_probs.sum("parent").max()) < 2
    model.adapt(tasks.take_rows(2, seed=0))
    with pytest.warns(MetaCaDIWarning, match=r"support: .* got fewer in 4 of 4 tasks") as caught:
        model.adapt(tasks.take_rows(1, seed=0))
    assert caught[0].filename == __file__


def test_the_paper_configuration_may_be_overridden():
    assert MetaCaDI.paper().components.objective is PaperObjective
    assert MetaCaDI.paper(objective="elbo", target_prior=0.2).components.target_prior == 0.2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_trained_on_cuda_gives_the_same_probabilities_on_the_cpu(tmp_path):
    model = fit(device="cuda")
    model.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model", device="cpu")
    for name in ("edge_probs", "target_probs"):
        probabilities = [getattr(m.posterior, name) for m in (model, again)]
        np.testing.assert_allclose(*probabilities, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_callers_cuda_generator_is_untouched(device):
    before = torch.cuda.get_rng_state()
    fit(device=device)
    assert torch.equal(torch.cuda.get_rng_state(), before)
