"""The svi engine with a noise model of counts: all that it does with others."""

from functools import cache, partial

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive
from pyro.infer.inspect import get_model_relations
from safetensors.torch import load_file, save_file

from pyro_metacadi import MetaCaDI, TaskDataset, metrics, simulators
from pyro_metacadi.comparison import compare, left_out_scores
from pyro_metacadi.data.counts import check_counts
from pyro_metacadi.engines import svi, svi_scaling
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIWarning, ModelFileError
from pyro_metacadi.guides import SharedDeepSets
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import Training, held_out_loss
from pyro_metacadi.left_out import row_scores
from pyro_metacadi.models import GaussianNoise, NegativeBinomialNoise
from pyro_metacadi.tuning import tune
from tests.helpers import TINY, counts_of, given_draws, state, tiny_estimator, tiny_tasks, traces

FAST = {"folds": 2, "support_size": 3, "num_steps": 4, "progress": False}

by_counts = partial(tiny_estimator, noise=NegativeBinomialNoise)


def tiny_counts(**options):
    return counts_of(tiny_tasks(**options))


@cache
def count_fit():
    """A model of `tiny_counts`; shared, so leave it as it is."""
    return by_counts().fit(tiny_counts(), progress=False)


@pytest.mark.parametrize("objective", ["paper", "elbo"])
def test_fits_are_finite_and_learn_the_dispersion(objective):
    model = by_counts(objective=objective).fit(tiny_counts(), num_steps=30, progress=False)
    assert all(np.isfinite(values).all() for values in model.history.values())
    dispersion = model._fit.chains[0].model.noise.dispersion
    assert (dispersion != NegativeBinomialNoise(3, 5).dispersion).all()
    found = model.adapt(tiny_counts(rows=(5, 1, 3)))
    assert np.isfinite(found.target_probs).all()
    assert np.isfinite(found.log_likelihood(num_draws=3)).all()


def test_targets_of_counts_are_found():
    options = {"num_variables": 4, "num_samples": 60, "intervention_mean": 2.0}
    world = simulators.gp_anm(num_tasks=8, **options, seed=1)
    new = world.sample_tasks(10, 10, seed=2)
    parts = {"noise": NegativeBinomialNoise, "predictor": SharedDeepSets}
    model = MetaCaDI.paper(**parts, training=Training(patience=None))
    model.fit(counts_of(world.tasks), num_steps=150, progress=False)
    truth = {"adjacency": new.adjacency, "intervention_targets": new.intervention_targets}
    counts = counts_of(new.tasks, seed=1)
    deep = TaskDataset.from_arrays([100 * rows for rows in counts.arrays])
    probs = []
    for tasks in (counts, deep):
        found = model.adapt(tasks)
        scores = metrics.evaluate(found, **truth)
        assert all(np.isfinite(list(scores.values())))
        assert scores["intv_ap"] > 0.9
        probs.append(found.target_probs.values)
    # Residuals of logarithms take depth for silence: they differ four times as much.
    assert np.abs(probs[1] - probs[0]).mean() < 0.015


def test_a_row_is_judged_whatever_the_depth_of_others():
    model, tasks = count_fit(), tiny_counts(rows=(5, 4))
    together = model.adapt(tasks).target_probs
    for at, name in enumerate(tasks.tasks):
        alone = model.adapt(tasks[[name]]).target_probs
        np.testing.assert_allclose(alone[0], together[at], atol=1e-5)


def test_columns_in_another_order_are_the_same():
    model, tasks = count_fit(), tiny_counts(rows=(5, 4))
    turned = tasks.select(list(tasks.variables[::-1]))
    assert model.adapt(turned).target_probs.equals(model.adapt(tasks).target_probs)


def test_large_counts_are_not_cut():
    tasks = tiny_counts()
    large = TaskDataset.from_arrays([np.floor(rows * 1e6) for rows in tasks.arrays])
    model = by_counts().fit(large, progress=False)  # warnings are errors
    batch = model.adapt(large)._prepared
    assert batch.x.max().item() == large.values.max()
    assert np.isfinite(model.adapt(large).log_likelihood(num_draws=2)).all()


@pytest.mark.parametrize(("library_size", "count"), [(True, 1e12), (False, 2.0**52)])
def test_single_counts_out_of_all_proportion_are_cut_with_a_warning(count, library_size):
    noise = partial(NegativeBinomialNoise, library_size=library_size)
    arrays = [rows.copy() for rows in tiny_counts().arrays]
    arrays[0][0, 0] = count
    wrong = TaskDataset.from_arrays(arrays)
    message = r"rows: expected values within [\de+.]+ counts, 1000 times .* at task 'task1', column"
    with pytest.warns(MetaCaDIWarning, match=message) as caught:
        model = tiny_estimator(noise=noise).fit(wrong, progress=False)
    assert caught[0].filename == __file__
    assert all(np.isfinite(values).all() for values in model.history.values())
    usual = tiny_estimator(noise=noise).fit(tiny_counts(), progress=False)
    with pytest.warns(MetaCaDIWarning, match=message):
        found = usual.adapt(wrong)
    assert np.isfinite(found.target_probs).all()
    assert np.isfinite(found.log_likelihood(num_draws=2)).all()


def test_every_task_is_checked_before_memory_is_measured():
    bad = [*tiny_counts().arrays, np.full((1, 3), 0.5)]  # in the smallest
    with pytest.raises(DataError, match=r"counts: .* got 0.5 at task 'task5'"):
        by_counts().memory_needed(TaskDataset.from_arrays(bad))


def test_counts_on_disk_are_checked_once(tmp_path, monkeypatch):
    tasks, checked = tiny_counts(), []
    np.save(tmp_path / "rows.npy", tasks.values)
    mapped = TaskDataset.from_memmap(tmp_path / "rows.npy", num_rows=tasks.num_rows)

    def check(tasks):
        checked.append(tasks)
        return check_counts(tasks)

    for module in (svi, svi_scaling):
        monkeypatch.setattr(module, "check_counts", check)
    by_counts()._engine.fit_chains(
        mapped,
        num_steps=2,
        num_chains=1,
        seed=0,
        device=torch.device("cpu"),
        memory=10**9,
        progress=False,
        callbacks=(),
    )
    assert len(checked) == 1


class SizedNoise(GaussianNoise):
    """Built only where a mechanism has features to speak of."""

    def __init__(self, num_variables, num_features):
        super().__init__(num_variables, num_features)
        assert num_features > 1


def test_noise_models_are_built_from_the_features_that_mechanisms_have():
    model = tiny_estimator(noise=SizedNoise).fit(tiny_tasks(), progress=False)
    assert np.isfinite(model.history["loss"]).all()


def test_a_model_of_values_is_not_loaded_with_a_noise_model_of_counts(tmp_path):
    tiny_estimator().fit(tiny_tasks(), progress=False).save(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"'scaling.total': .* Pass a noise model of values"):
        MetaCaDI.load(tmp_path / "model", noise=NegativeBinomialNoise)


def test_saved_models_come_back(tmp_path):
    model, tasks = count_fit(), tiny_counts(rows=(3, 2), seed=9)
    model.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model")
    assert again.adapt(tasks).target_probs.identical(model.adapt(tasks).target_probs)
    assert again._fit.scaling.units.total == model._fit.scaling.units.total
    assert (again.posterior.tasks.values == model.posterior.tasks.values).all()


@pytest.mark.parametrize("total", [0.0, -1.0, np.inf, np.nan, [1.0], None])
def test_damaged_totals_are_refused(tmp_path, total):
    count_fit().save(tmp_path / "model")
    path = tmp_path / "model" / "tensors.safetensors"
    tensors = load_file(path)
    del tensors["scaling.total"]
    if total is not None:
        tensors["scaling.total"] = torch.tensor(total, dtype=torch.float64)
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match=r"scaling\.total"):
        MetaCaDI.load(tmp_path / "model")


def test_rows_on_disk_give_the_same_model(tmp_path):
    tasks = tiny_counts(rows=(12, 9, 12, 7, 3, 20))
    np.save(tmp_path / "rows.npy", tasks.values)
    mapped = TaskDataset.from_memmap(tmp_path / "rows.npy", num_rows=tasks.num_rows)
    first, second = (by_counts().fit(some, progress=False) for some in (tasks, mapped))
    assert state(first._fit.chains[0]) == state(second._fit.chains[0])
    np.testing.assert_array_equal(first.posterior.target_probs, second.posterior.target_probs)
    second.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model").posterior.target_probs
    np.testing.assert_array_equal(again, first.posterior.target_probs)


def test_the_smallest_budget_gives_the_same_result():
    tasks, fits = tiny_counts(), []
    for which in ("least", "most"):
        model = by_counts()
        budget = getattr(model.memory_needed(tasks), which)
        fits.append(model.fit(tasks, memory_budget=budget, progress=False).posterior.target_probs)
    np.testing.assert_allclose(*fits, atol=1e-5)


def test_held_out_rows_are_scored_as_counts():
    chain = count_fit()._fit.chains[0]
    batch = chain.prepare(tiny_counts(rows=(8, 8)).arrays)
    generator = torch.Generator().manual_seed(0)
    loss = held_out_loss(*chain, batch.split(3, generator=generator))
    assert 0 < loss < 100


def test_posterior_predictive_draws_are_counts():
    chain = count_fit()._fit.chains[0]
    batch = chain.prepare(tiny_counts(rows=(20, 20)).arrays)
    with isolated(0):
        model = poutine.uncondition(chain.model)
        draws = Predictive(model, guide=chain.guide, num_samples=50, parallel=True)(batch)["x"]
    assert draws.shape == (50, 2, 20, 3)
    assert (draws == draws.floor()).all()
    assert (draws >= 0).all()
    assert 0.2 < draws.mean() / batch.x.mean() < 5


def test_the_relations_of_the_model_are_those_of_others():
    chain = count_fit()._fit.chains[0]
    with isolated(0):
        relations = get_model_relations(chain.model, (chain.prepare(tiny_counts().arrays),))
    assert relations["observed"] == ["residual", "x"]
    assert relations["sample_dist"]["x"] == "_NegativeBinomial"


def test_padding_and_draws_change_nothing():
    chain = count_fit()._fit.chains[0]
    batch = chain.prepare(tiny_counts(rows=(9, 4)).arrays)
    with given_draws(5):
        together, guide = traces(chain, batch)
    found = together.nodes["x"]["log_prob"]
    assert found.shape == (5, 2, 9)
    assert not found[:, ~batch.mask].any()
    values = {name: guide.nodes[name]["value"][2] for name in ("order_score", "edge")}
    values = {name: value[0, 0] for name, value in values.items()}
    values["intervention_target"] = guide.nodes["intervention_target"]["value"][2]
    given = chain._replace(guide=chain.guide.given(values))
    alone, _ = traces(given, batch, model=pyro.condition(chain.model, values))
    torch.testing.assert_close(alone.nodes["x"]["log_prob"], found[2], rtol=1e-4, atol=1e-4)


def test_arviz_gets_counts():
    data = count_fit().posterior.to_inference_data(num_draws=3)
    observed = data["observed_data"]["x"].values
    assert (observed == tiny_counts().values).all()


def test_options_are_chosen_by_probabilities_of_counts():
    options = {"engine": "svi", "noise": NegativeBinomialNoise, **TINY, **FAST}
    table = tune(tiny_counts(), {"graph_weight": [0.0, 0.1]}, **options)
    assert np.isfinite(table).all(axis=None)
    assert (table["score"] < 0).all()


def test_scores_are_those_of_the_counts_themselves():
    tasks = tiny_counts(rows=(8, 6))
    support, query = tasks.take_rows(3, seed=0), tasks.take_rows(3, seed=1)
    scores = row_scores(count_fit(), query, support=support, num_graphs=50)
    assert [len(rows) for rows in scores] == [3, 3]
    assert (np.concatenate(scores) < 0).all()


def test_models_of_counts_compare():
    models = {str(start): by_counts() for start in (0, 1)}
    table = compare(models, tiny_counts(), **FAST)
    assert table["elpd_diff"].tolist() == [0, 0]


@pytest.mark.parametrize(
    "other",
    [
        partial(tiny_estimator, noise=GaussianNoise),
        MetaCaDI,
        partial(tiny_estimator, noise=partial(NegativeBinomialNoise, library_size=False)),
    ],
)
def test_models_of_other_data_do_not_compare(other):
    with pytest.raises(ConfigError, match=r"noise: expected models that score the same, got some"):
        left_out_scores({"counts": by_counts(), "other": other()}, tiny_counts(), **FAST)


@pytest.mark.parametrize("value", [-1.0, 0.5])
def test_what_is_no_count_is_refused_by_fit_and_adapt(value):
    bad = [rows.copy() for rows in tiny_counts().arrays]
    bad[1][2, 0] = value
    wrong = TaskDataset.from_arrays(bad)
    message = rf"counts: .* got {value} at task 'task2', column 'X1'\. Pass raw counts"
    for use in (by_counts().fit, count_fit().adapt):
        with pytest.raises(DataError, match=message):
            use(wrong)


def test_covariates_are_refused_as_with_other_noise_models():
    tasks = tiny_counts()
    dose = np.arange(float(len(tasks.values)))
    beside = TaskDataset.from_arrays(tasks.arrays, covariates={"dose": dose})
    with pytest.raises(DataError, match=r"covariates: expected none with engine='svi'"):
        by_counts().fit(beside, progress=False)


def test_the_other_engine_names_the_one_that_can():
    with pytest.raises(ConfigError, match=r"noise: expected none .* Pass engine='svi' with it"):
        MetaCaDI(noise=NegativeBinomialNoise)


def test_a_table_without_counts_is_a_warning_not_an_error():
    nothing = TaskDataset.from_arrays(np.zeros((3, 5, 2)))
    with pytest.warns(MetaCaDIWarning, match="a constant at column"):
        model = by_counts().fit(nothing, progress=False)
    assert np.isfinite(model.posterior.target_probs).all()
    assert isinstance(model._fit.scaling, svi_scaling.CountScaling)
