"""Rows drawn from mechanisms: their law, in every engine, noise model and representation."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pyro.distributions import Normal

from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.data.representation import REPRESENTATIONS, Representation
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIWarning
from pyro_metacadi.inference.doing import Options, warn_of_far_surroundings
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.simulated import simulate
from pyro_metacadi.inference.surroundings import Surroundings, Trained
from pyro_metacadi.inference.user_units import lowest, to_model, to_user
from pyro_metacadi.models import noise
from pyro_metacadi.ops.rows import TaskRows
from tests.helpers import (
    counts_of,
    evidence_estimator,
    evidence_fit,
    fitted,
    tiny_estimator,
    tiny_tasks,
)

NOISES = [name for name in noise.__all__ if name not in ("CountNoise", "Noise")]


def beside(chain, draws, rows=1):
    width = 0
    if hasattr(chain, "library"):
        width = chain.library.evidence.rows.covariates.shape[1]
    return Surroundings(np.zeros((draws, rows, width)), np.ones((draws, rows)))


def drawn(chain, graphs, *, rows=1, held=None, seed=0):
    options = {"held": held or {}, "beside": beside(chain, len(graphs.adjacency), rows)}
    return simulate(chain, graphs, num_settings=1, seed=seed, **options)[:, :, 0]


def test_rows_of_the_evidence_engine_follow_its_predictive_law():
    chain = evidence_fit()._fit.chains[0]
    graphs = chain.draw_graphs(400, seed=0)
    x = drawn(chain, graphs)[:, 0]
    rows, families = TaskRows.from_arrays([x.numpy()], dtype=torch.float64), graphs.families
    for batch in chain.library.evidence.batches(families, num_rows=len(x)):
        made = chain.library.mechanisms.predict(rows, [batch], row_by_row=True)
        variance = made.weights.variance + made.noise_variance.unsqueeze(-1)
        scores = (made.values.x - made.weights.mean) / variance.sqrt()
        for family, score in zip(batch, scores, strict=True):
            own = graphs.index[:, family.variable] == families.index(family)
            score = score[own].numpy()
            assert abs(score.mean()) < 4.5 / np.sqrt(len(score))
            assert abs((score**2).mean() - 1) < 4.5 * np.sqrt(2 / len(score))


def test_rows_of_one_draw_share_their_weights():
    chain = evidence_fit()._fit.chains[0]
    mechanisms, graphs = chain.library.mechanisms, chain.draw_graphs(400, seed=0)
    child = int(graphs.adjacency.sum((0, 1)).argmax())
    far = {at: torch.tensor([2.5]).double() for at in range(4) if at != child}
    x = drawn(chain, graphs, rows=50, held=far)[..., child]
    row = TaskRows.from_arrays([np.full((1, 4), 2.5)], dtype=torch.float64)
    family, own = most_common_family(graphs, child)
    made = mechanisms.predict(row, [[family]], row_by_row=True)
    assert x[own].var(1).mean() == pytest.approx(float(made.noise_variance), rel=0.1)
    expected = float(made.weights.variance + made.noise_variance / 50)
    assert float(made.weights.variance) > 3 * float(made.noise_variance / 50)
    tolerance = 4.5 * np.sqrt(2 / float(own.sum()))
    assert x[own].mean(1).var() == pytest.approx(expected, rel=tolerance)


def most_common_family(graphs, variable):
    index = graphs.index[:, variable]
    most = index.mode().values
    return graphs.families[int(most)], index == most


def test_rows_of_the_svi_engine_are_predictions_plus_the_same_noise_in_all_settings():
    chain = fitted()._fit.chains[0]
    graphs = chain.draw_graphs(300, seed=0)
    residuals = []
    for value in (-1.0, 2.0):
        x = drawn(chain, graphs, held={0: torch.tensor([value]).double()}, rows=2)
        with torch.no_grad():
            loc = chain.model.mechanisms.observe(x.float().unsqueeze(1), graphs.adjacency)
        residuals.append((x - loc[:, 0])[..., 1:])
    torch.testing.assert_close(*residuals, atol=1e-5, rtol=0)
    scale = float(chain.model.noise.scale)
    assert float(residuals[0].std()) == pytest.approx(scale, rel=0.1)
    assert float(residuals[0].mean()) == pytest.approx(0, abs=0.1 * scale)


@pytest.mark.parametrize("name", NOISES)
def test_every_noise_model_can_be_drawn_from(name):
    kind = getattr(noise, name)
    tasks = counts_of(tiny_tasks()) if name == "NegativeBinomialNoise" else tiny_tasks()
    model = tiny_estimator(noise=kind).fit(tasks, progress=False)
    x = model.posterior.predict({"X1": 1.0}, num_draws=40)["x"]
    assert np.isfinite(x).all()
    assert (x.isel(variable=slice(1, None)).std("draw") > 0).all()
    assert np.isfinite(model.posterior.causal_effects(num_graphs=3, num_rows=2)["mean"]).all()


class _Unsampled(Normal):
    def sample(self, sample_shape=()):
        raise NotImplementedError


class NoSamples(noise.LearnedGaussianNoise):
    def forward(self, loc, features):
        return _Unsampled(loc, self.scale)


def test_a_noise_model_without_samples_is_refused():
    model = tiny_estimator(noise=NoSamples).fit(tiny_tasks(), progress=False)
    with pytest.raises(ConfigError, match=r"noise: expected a law that can be sampled, got _Unsam"):
        model.posterior.predict()


def test_chains_of_others_draw_no_rows():
    with pytest.raises(TypeError, match="no rows can be drawn from object"):
        simulate(object(), None, held={}, beside=None, num_settings=1, seed=0)


POSITIVE = npst.arrays(float, (7, 3), elements=st.floats(1e-3, 1e3))


@given(values=POSITIVE, kind=st.sampled_from([*REPRESENTATIONS, "standardised", "raw"]))
def test_units_are_those_of_the_scaling_and_lead_back(values, kind):
    tasks = TaskDataset.from_arrays([values])
    units = {
        "standardised": Standardizer.fit,
        "raw": CountUnits.fit,
    }.get(kind, lambda tasks: Representation.fit(tasks, kind=kind))(tasks)
    standard = to_model(units, values)
    if kind != "raw":
        np.testing.assert_allclose(standard, units.transform(tasks)[0][:, :3], atol=1e-9)
    np.testing.assert_allclose(to_user(units, standard), values, rtol=1e-6, atol=1e-9)
    nothing = np.full(3, np.nan)
    assert np.isnan(to_model(units, nothing)).all()
    least = max(lowest(units), -1e6)
    assert np.isfinite(to_model(units, np.full(3, least))).all()
    assert (to_user(units, np.full(3, -50.0)) >= lowest(units) - 1e-300).all() or kind == "raw"


@cache
def with_zeros():
    """Whole numbers of which two fifths are zero; shared, so leave it as it is."""
    rng = np.random.default_rng(0)
    arrays = [
        np.floor(rng.lognormal(3, 0.5, (40, 3)) * (rng.random((40, 3)) > 0.4)) for _ in "1234"
    ]
    return MetaCaDI(sampling=Sampling(30, 10, 2)).fit(
        TaskDataset.from_arrays(arrays), progress=False
    )


def test_zeros_are_drawn_as_often_as_they_are_seen():
    model = with_zeros()
    assert model._fit.scaling.has_atom
    x = model.posterior.predict(num_draws=1500)["x"].values
    seen = model._fit.tasks.values
    assert (x >= 0).all()
    np.testing.assert_allclose((x == 0).mean((0, 1)), (seen == 0).mean(0), atol=0.08)
    middle = np.median(x[x > 0]) / np.median(seen[seen > 0])
    assert 0.8 < middle < 1.25


def test_negative_counts_cannot_be_held():
    with pytest.raises(ConfigError, match=r"do: expected values of at least 0 at 'X1'.* got -1"):
        with_zeros().posterior.predict({"X1": -1.0})


@pytest.mark.parametrize("engine", ["evidence", "svi"])
def test_deeper_rows_have_more_counts(engine):
    rng = np.random.default_rng(0)
    depth = rng.lognormal(0, 0.7, (5, 60, 1))
    arrays = list(rng.poisson(depth * np.array([40.0, 80.0, 20.0, 60.0])).astype(float))
    tasks = TaskDataset.from_arrays(arrays)
    if engine == "evidence":
        model = MetaCaDI(graph_prior=np.zeros((4, 4)), sampling=Sampling(10, 10, 1))
    else:
        model = tiny_estimator(noise=noise.NegativeBinomialNoise)
    model.fit(tasks, progress=False)
    total = {
        total: float(
            model.posterior.predict(num_draws=300, total=total)["x"].sum("variable").mean()
        )
        for total in (100, 400)
    }
    assert 3 < total[400] / total[100] < 5
    for wrong in (0, -3.0, np.nan, "deep", True):
        with pytest.raises(ConfigError, match="total: expected the positive number"):
            model.posterior.predict(total=wrong)


def test_covariates_are_those_of_training_rows_or_those_given():
    rng = np.random.default_rng(0)
    batch, dose = rng.random(200) < 0.25, rng.normal(size=200)
    x = rng.normal(size=(200, 2)) * 0.3 + 4.0 * batch[:, None]
    covariates = {"batch": np.where(batch, "b", "a"), "dose": dose}
    tasks = TaskDataset.from_arrays(np.split(x, 4), covariates=covariates)
    model = MetaCaDI(graph_prior=np.zeros((2, 2)), sampling=Sampling(10, 10, 1))
    model.fit(tasks, progress=False)
    posterior = model.posterior
    mean = {
        group: posterior.predict(covariates=group and {"batch": group}, num_draws=600)[
            "mean"
        ].values
        for group in (None, "a", "b")
    }
    np.testing.assert_allclose(mean["a"], 0, atol=0.2)
    np.testing.assert_allclose(mean["b"], 4, atol=0.2)
    np.testing.assert_allclose(mean[None], 4 * batch.mean(), atol=0.4)
    for wrong, error, message in [
        ({"side": "a"}, DataError, "covariates: expected a known name, got 'side'"),
        ({"batch": "c"}, DataError, "covariates: expected groups of the training tasks"),
        ({"batch": 1.0}, DataError, "expected text"),
        ({"dose": np.nan}, DataError, "missing"),
        ({"dose": [1.0, 2.0]}, ConfigError, "expected one value at 'dose'"),
        ({}, ConfigError, "covariates: expected a dict"),
    ]:
        with pytest.raises(error, match=message):
            posterior.predict(covariates=wrong)


def test_covariates_and_totals_beyond_all_training_rows_are_warned_of():
    dose = np.linspace(0, 1, len(tiny_tasks().values))
    beside = {"dose": dose, "batch": np.where(dose > 0.5, "b1", "b2")}
    tasks = TaskDataset.from_arrays(tiny_tasks().arrays, covariates=beside)
    posterior = evidence_estimator(num_draws=20, warmup=10).fit(tasks, progress=False).posterior
    far = r"covariates, total: .* got 9 at 'dose' \(0 to 1\)\. Beyond these"
    with pytest.warns(MetaCaDIWarning, match=far) as caught:
        posterior.predict(covariates={"dose": 9.0, "batch": "b1"}, num_draws=3)
    assert {warning.filename for warning in caught} == {__file__}
    with pytest.warns(MetaCaDIWarning, match=far):
        posterior.causal_effects(["X1"], covariates={"dose": 9}, num_graphs=3)
    posterior.predict(covariates={"dose": 0.5}, num_draws=3)


def test_a_total_beyond_is_told_beside_a_covariate_of_that_name():
    tasks = TaskDataset.from_arrays(np.ones((1, 3, 2)), covariates={"total": [0.0, 1.0, 2.0]})
    trained = Trained(tasks, None, lambda: np.zeros((1, 2)))
    both = r"got 9 at 'total' \(0 to 2\), 7 at 'total' \(2 to 2\)\."
    with pytest.warns(MetaCaDIWarning, match=both):
        warn_of_far_surroundings(Options(covariates={"total": 9.0}, total=7), trained)
    warn_of_far_surroundings(Options(covariates={"total": 1.0}, total=2), trained)
