"""Declared targets are honoured in training, in adaptation and in what is made of the posterior."""

import math
import warnings
from functools import cache

import numpy as np
import pytest
import torch

from pyro_metacadi import MetaCaDI, TaskDataset, simulators
from pyro_metacadi.errors import MetaCaDIWarning, ModelFileError
from pyro_metacadi.inference.chains import NUM_GRAPHS
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.ops.target_counts import binomial
from tests.helpers import evidence_estimator, evidence_fit, tiny_estimator, tiny_tasks, tiny_world
from tests.ops.test_known_targets import conditioned
from tests.ops.test_target_counts import enumerated, marginals

KNOWN = [[0, 0, 0, 1], [-1, -1, 1, -1], [-1, 0, -1, -1], [-1] * 4, [0, -1, -1, 1], [-1] * 4]
"""Of `tiny_world`, in accordance with the truth."""


def declared_tasks():
    tasks = tiny_world().tasks
    return tasks.with_known_targets(KNOWN)


def new_tasks(known=None):
    tasks = tiny_world().sample_tasks(num_tasks=3, num_samples=4, seed=5).tasks
    return tasks if known is None else tasks.with_known_targets(known)


NEW = [[-1, 0, -1, -1], [1, -1, -1, 0], [-1, -1, -1, -1]]


@cache
def evidence_model(target_prior=None):
    return evidence_estimator(target_prior=target_prior).fit(declared_tasks(), progress=False)


@cache
def svi_model(objective="paper"):
    model = tiny_estimator(objective=objective)
    return model.fit(svi_tasks(), progress=False)


def svi_tasks():
    tasks = tiny_tasks(rows=(12, 9, 30, 7))
    return tasks.declare(0, exactly=["X1"]).declare(1, hit=["X3"]).declare(2, not_hit=["X1"])


MODELS = {
    "counted": lambda: (evidence_model(), declared_tasks(), new_tasks(NEW)),
    "independent": lambda: (evidence_model(0.2), declared_tasks(), new_tasks(NEW)),
    "svi": lambda: (svi_model(), svi_tasks(), new_svi()),
    "svi, elbo": lambda: (svi_model("elbo"), svi_tasks(), new_svi()),
}


def new_svi():
    return tiny_tasks(rows=(6, 5), seed=1).declare(1, hit=["X2"], not_hit=["X3"])


@pytest.fixture(params=MODELS)
def case(request):
    return MODELS[request.param]()


def assert_honoured(posterior):
    known = posterior.tasks.known_targets
    probs = posterior.target_probs.values
    assert (probs[known == 1] == 1).all()
    assert (probs[known == 0] == 0).all()
    assert ((probs[known == -1] > 0) & (probs[known == -1] < 1)).all()
    drawn = posterior.sample(40)["intervention_target"].values
    assert (drawn[..., known == 1] == 1).all()
    assert (drawn[..., known == 0] == 0).all()
    assert len(np.unique(drawn[..., known == -1])) == 2


def test_probabilities_and_draws_are_exactly_what_was_declared(case):
    model, _, new = case
    assert_honoured(model.posterior)
    assert_honoured(model.adapt(new))


def test_columns_may_come_in_another_order(case):
    model, _, new = case
    straight = model.adapt(new).target_probs
    turned = model.adapt(new.select(new.variables[::-1])).target_probs
    np.testing.assert_allclose(turned.values, straight.values, rtol=1e-12)


def test_a_training_task_is_judged_again_by_what_is_declared_now():
    model, tasks = evidence_model(), declared_tasks()
    again = model.adapt(tasks[[1, 4]]).target_probs
    np.testing.assert_array_equal(again, model.posterior.target_probs[[1, 4]])
    told_nothing = model.adapt(tasks.with_known_targets(None)[[1, 4]]).target_probs.values
    assert not np.isin(told_nothing, (0, 1)).any()


def test_what_is_declared_of_a_task_is_not_known_of_another_with_the_same_rows():
    world = tiny_world().tasks
    twice = TaskDataset.from_arrays([*world.arrays, world.arrays[-1]])
    name = twice.variables[0]
    model = evidence_estimator().fit(twice.declare(twice.tasks[-1], hit=[name]), progress=False)
    probs = model.posterior.target_probs.sel(variable=name)
    assert probs[-1] == 1
    assert 0 < probs[-2] < 1


def test_a_task_of_which_nothing_is_declared_does_not_feel_the_others():
    model = evidence_model()
    alone = model.adapt(new_tasks()).target_probs.values
    beside = model.adapt(new_tasks(NEW)).target_probs.values
    np.testing.assert_array_equal(beside[2], alone[2])
    assert not np.allclose(beside[0, 2:], alone[0, 2:])


def test_a_saved_model_gives_the_same_posterior(case, tmp_path):
    model, tasks, new = case
    model.save(tmp_path / "model")
    loaded = MetaCaDI.load(tmp_path / "model")
    assert loaded.posterior.tasks == tasks
    for before, after in ((m.posterior, m.adapt(new)) for m in (model, loaded)):
        assert_honoured(before)
        assert_honoured(after)
    for name in ("target_probs", "edge_probs"):
        for ask in (lambda m: m.posterior, lambda m: m.adapt(new)):
            np.testing.assert_array_equal(getattr(ask(loaded), name), getattr(ask(model), name))


def test_ranks_say_what_was_declared_and_put_it_first_or_last(case):
    model, tasks, _ = case
    table = model.posterior.rank_targets()
    for name, known in zip(tasks.tasks, tasks.known_targets, strict=True):
        own = table[table["task"] == name].set_index("variable")
        assert own["declared"][list(tasks.variables)].tolist() == (known != -1).tolist()
        said = [known[tasks.variables.index(v)] for v in own.index]
        assert said == sorted(said, key=lambda k: {1: 0, -1: 1, 0: 2}[k])


def test_arviz_gets_what_was_declared(case):
    model, tasks, _ = case
    data = model.posterior.to_inference_data(num_draws=3)
    constant = data.constant_data["known_targets"]
    assert constant.dims == ("task", "variable")
    np.testing.assert_array_equal(constant, tasks.known_targets)
    for values in (*data.sample_stats.values(), data.log_likelihood["x"]):
        assert np.isfinite(values).all()
    plain = model.adapt(tasks.with_known_targets(None)).to_inference_data(num_draws=2)
    assert "known_targets" not in plain.constant_data


@pytest.mark.parametrize("target_prior", [None, 0.2])
@pytest.mark.parametrize("ask", ["posterior", "adapt"])
def test_probabilities_are_those_of_all_sets_that_agree_with_the_declaration(target_prior, ask):
    model = evidence_model(target_prior)
    posterior = model.posterior if ask == "posterior" else model.adapt(new_tasks(NEW))
    rows, hyper = posterior.tasks, model._fit.scaling.evidence.hyperparameters
    law = binomial(4, 0.2) if target_prior else hyper.num_targets
    totals = []
    for index, chain in enumerate(model._fit.chains):
        seed = stream_seed(posterior._seed, index)
        graphs = chain.draw_graphs(NUM_GRAPHS, seed=seed)
        prepared = chain.prepare(model._fit.scaling.transform(rows))
        by_family = chain.library.log_ratio(prepared, graphs.families)
        for at in graphs.index:
            totals.append(
                [
                    marginals(conditioned(enumerated(by_family[at, t], law), known))
                    for t, known in enumerate(rows.known_targets)
                ]
            )
    np.testing.assert_allclose(posterior.target_probs, np.mean(totals, axis=0), atol=1e-9)


def test_the_number_of_targets_is_learned_given_those_that_are_known():
    tasks = tiny_world().tasks
    truth = tiny_world().intervention_targets
    more = tasks.with_known_targets(np.where(np.arange(4) < 2, 1, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetaCaDIWarning)  # of what is wrongly declared
        plain, many = (
            evidence_estimator(num_chains=1)
            .fit(one, progress=False)
            ._fit.scaling.evidence.hyperparameters.num_targets
            for one in (tasks.with_known_targets(truth), more)
        )
    assert plain[1] > 0.5
    assert many[2:].sum() > 0.7


def test_graphs_are_scored_with_what_is_known():
    known = evidence_model()._fit.scaling.evidence
    assert known.prior_log_odds[0].tolist() == [-math.inf] * 3 + [math.inf]
    assert known.prior_log_odds[3].isfinite().all()


def test_unknown_everywhere_is_nothing_declared():
    tasks = tiny_world().tasks
    same = tasks.with_known_targets(np.full((6, 4), -1))
    found = evidence_estimator().fit(same, progress=False)
    for name in ("edge_probs", "target_probs"):
        expected = getattr(evidence_fit().posterior, name).values
        assert getattr(found.posterior, name).values.tobytes() == expected.tobytes()
    assert not found.posterior.rank_targets()["declared"].any()
    assert "data.known_targets" not in found._fit._tensors()


# Files that do not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["data.known_targets"].fill_(2), "data.known_targets"),
        (lambda t: t["data.known_targets"].fill_(-1), "scaling.prior_log_odds"),
        (
            lambda t: t.update({"data.known_targets": torch.zeros(6, 3, dtype=torch.int8)}),
            "data.known",
        ),
        (lambda t: t.update({"data.known_targets": torch.zeros(6, 4)}), "data.known_targets"),
        (lambda t: t.pop("data.known_targets"), "scaling.prior_log_odds"),
        (lambda t: t["scaling.prior_log_odds"].fill_(math.inf), "scaling.prior_log_odds"),
        (lambda t: t["scaling.prior_log_odds"].fill_(math.nan), "scaling.prior_log_odds"),
        (lambda t: t["scaling.prior_log_odds"].fill_(0.0), "scaling.prior_log_odds"),
    ],
)
def test_damaged_declarations_are_refused(change, message, tmp_path):
    import safetensors.torch

    evidence_model().save(tmp_path / "model")
    file = tmp_path / "model" / "tensors.safetensors"
    tensors = safetensors.torch.load_file(file)
    change(tensors)
    safetensors.torch.save_file(tensors, file)
    with pytest.raises(ModelFileError, match=message):
        MetaCaDI.load(tmp_path / "model")


# Declarations that the rows speak against


@cache
def clear_world(seed):
    """Enough tasks to learn what a hit looks like."""
    sizes = {"num_variables": 6, "num_tasks": 20, "num_samples": 60}
    return simulators.gp_anm(**sizes, intervention_mean=2.0, seed=seed)


def fit(tasks):
    return evidence_estimator(num_draws=40, num_chains=1).fit(tasks, progress=False)


@cache
def rightly_declared(seed):
    """A model of tasks with all targets declared, as they are; warnings are errors."""
    world = clear_world(seed)
    return fit(world.tasks.with_known_targets(world.intervention_targets))


def wrong(world, task):
    """Names of a variable that the task hit, and of one that it did not."""
    line = world.intervention_targets[task]
    return world.tasks.variables[int(line.argmax())], world.tasks.variables[int(line.argmin())]


@pytest.mark.parametrize("seed", range(3))
def test_right_declarations_are_no_conflict(seed):
    model = rightly_declared(seed)
    assert model.posterior.conflicts == []
    new = clear_world(seed).sample_tasks(6, 30, seed=seed)
    assert model.adapt(new.tasks.with_known_targets(new.intervention_targets)).conflicts == []


@pytest.mark.parametrize("seed", [0, 2, 3])  # on seed 1 another graph explains the rows as well
def test_wrong_declarations_are_reported_by_name(seed):
    world = clear_world(seed)
    other, hit = wrong(world, 0)[1], wrong(world, 1)[0]
    tasks = world.tasks.declare(0, hit=[other]).declare(1, not_hit=[hit])
    first, second = tasks.tasks[:2]
    with pytest.warns(MetaCaDIWarning, match="declarations that the rows do not contra") as told:
        model = fit(tasks)
    (message,) = [str(one.message) for one in told]
    assert f"'{other}' declared hit at task '{first}' (" in message
    assert f"'{hit}' declared not hit at task '{second}' (" in message
    assert told[0].filename == __file__
    found = [one[:3] for one in model.posterior.conflicts]
    assert sorted(found) == [(first, other, "hit"), (second, hit, "not hit")]


@pytest.mark.parametrize("seed", range(3))
def test_wrong_declarations_of_new_tasks_are_reported(seed):
    new = clear_world(seed).sample_tasks(2, 60, seed=seed)
    hit, other = wrong(new, 1)
    tasks = new.tasks.declare(1, hit=[other], not_hit=[hit])
    with pytest.warns(MetaCaDIWarning, match=f"'{hit}' declared not hit at task") as told:
        found = rightly_declared(seed).adapt(tasks)
    assert {one.variable for one in found.conflicts} == {hit, other}
    assert told[0].filename == __file__


def test_mechanisms_fitted_to_the_same_rows_report_no_conflict():
    assert svi_model().posterior.conflicts == []


def test_all_hit_by_declaration_is_no_collapse():
    tasks = tiny_tasks(rows=(9, 9, 9))
    known = np.ones((3, 3)) - np.eye(3)
    tiny_estimator().fit(tasks.with_known_targets(known), progress=False)
    everything = TaskDataset.from_arrays(tasks.arrays, known_targets=np.ones((3, 3)))
    model = tiny_estimator().fit(everything, progress=False)
    assert (model.posterior.target_probs == 1).all()
