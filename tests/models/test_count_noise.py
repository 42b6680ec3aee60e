"""Counts are scored by their exact law, and read in units in which a mechanism speaks of rates."""

import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.nn import PyroModule
from scipy import stats

from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.components import Components
from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides import RidgeAdaptation
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import GaussianNoise, Noise, noise
from pyro_metacadi.models.noise import NegativeBinomialNoise
from pyro_metacadi.models.noise.counts import CountNoise, reads_counts, sizes_of
from pyro_metacadi.models.predictions import Predictions
from pyro_metacadi.ops.ridge import ridge_solve
from tests.helpers import tiny_chain

D, F, ROWS = 3, 5, 4
NAMES = ("a", "b", "c")
UNITS = CountUnits(60.0, np.array([3.0, 2.0, 0.2]), np.array([0.5, 1.0, 0.3]), NAMES)


@pytest.fixture(autouse=True)
def local_parameters():
    """Pyro's global store is for parameters of modules that are called outside."""
    with isolated(0):
        yield


def model(units=UNITS, **options):
    made = NegativeBinomialNoise(D, F, **options).double()
    made.set_units(units)
    return made


def inputs(*, draw=(), task=2, sample=ROWS, seed=1):
    """x, loc and sizes, float64."""
    generator = torch.Generator().manual_seed(seed)
    like = {"generator": generator, "dtype": torch.float64}
    x = torch.poisson(20 * torch.rand(task, sample, D, **like), generator)
    return x, torch.randn(*draw, task, sample, D, **like), 0.5 + torch.rand(task, sample, 1, **like)


def features(*, draw=()):
    return torch.zeros(*draw, 2, D, ROWS, 0, dtype=torch.float64)


def test_it_is_a_noise_model_of_counts_and_says_so():
    made = model()
    assert isinstance(made, Noise)
    assert made.response == "counts"
    assert reads_counts(made)
    assert not reads_counts(GaussianNoise(D, F))
    assert noise.NegativeBinomialNoise is NegativeBinomialNoise
    x = torch.ones(2, ROWS, D)
    assert sizes_of(GaussianNoise(D, F), x) == ()
    torch.testing.assert_close(sizes_of(made, x)[0], torch.full((2, ROWS, 1), 3 / 60))


@pytest.mark.parametrize("dispersion", [0.02, 0.2, 3.0])
def test_the_law_is_negative_binomial_of_mean_and_dispersion(dispersion):
    made, (x, loc, size) = model(dispersion=dispersion), inputs()
    law = made(loc, features(), size)
    mean = (made.log_rate(loc).exp() * size).detach()
    torch.testing.assert_close(law.mean.detach(), mean)
    torch.testing.assert_close(law.variance.detach(), mean + dispersion * mean**2)
    expected = stats.nbinom.logpmf(x, 1 / dispersion, 1 / (1 + dispersion * mean))
    np.testing.assert_allclose(law.log_prob(x).detach(), expected, rtol=1e-6)
    everything = torch.arange(20_000.0, dtype=torch.float64).reshape(-1, 1, 1, 1)
    total = law.log_prob(everything.expand(-1, 2, ROWS, D)).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-4)


def test_large_counts_keep_their_digits_in_float32():
    made = model().float()
    x = torch.tensor([[[2.0e6, 3.0e4, 50.0]]])
    loc, size = made.inputs(x), made.size(x)
    law = made(loc, features(), size)
    mean = law.mean.double().detach()
    expected = stats.nbinom.logpmf(x.double(), 5, 1 / (1 + 0.2 * mean))
    np.testing.assert_allclose(law.log_prob(x).detach(), expected, rtol=1e-4)
    assert law.log_prob(x).dtype == torch.float32


def test_values_that_are_no_counts_are_refused_where_pyro_validates():
    law = model()(torch.zeros(1, 1, D), features(), torch.ones(1, 1, 1))
    law._validate_args = True
    with pytest.raises(ValueError, match="support"):
        law.log_prob(torch.tensor([[[0.5, 1.0, 2.0]]]))


@pytest.mark.parametrize("library_size", [True, False])
def test_mechanisms_read_what_the_units_were_fitted_to(library_size):
    rng = np.random.default_rng(0)
    rows = rng.poisson(rng.gamma(1.0, 10.0, (50, D))).astype(float)
    rows[7] = 0
    units = CountUnits.fit(TaskDataset.from_arrays([rows]), library_size=library_size)
    read = model(units, library_size=library_size).inputs(torch.tensor(rows[None]))[0]
    np.testing.assert_allclose(read.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(read.std(0, correction=0), 1)


@given(st.floats(1e-5, 1e6))
def test_predictions_and_rates_are_each_others_inverse(rate):
    made, rate = model(), torch.full((D,), rate, dtype=torch.float64)
    loc, slope = (found.detach() for found in made.prediction(rate))
    log_rate = made.log_rate(loc.requires_grad_())
    torch.testing.assert_close(log_rate, rate.log())
    torch.testing.assert_close(torch.autograd.grad(log_rate.sum(), loc)[0], slope)
    clear = loc + made.mean / made.deviation > 1  # standard deviations from no count
    expected = (made.mean + loc * made.deviation).expm1()
    torch.testing.assert_close(rate[clear], expected[clear], rtol=0.02, atol=0)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_rates_grow_with_predictions_and_stay_finite(first, second):
    low, high = (torch.full((D,), loc) for loc in sorted((first, second)))
    rates = [model().log_rate(loc) for loc in (low, high)]
    assert (rates[0] <= rates[1]).all()
    assert torch.stack(rates).isfinite().all()


def drawn(made, rate, size, *, rows=20_000):
    """Counts of one rate, and what predicts it; float64."""
    size = torch.as_tensor(size, dtype=torch.float64).expand(1, rows, 1)
    loc, _ = made.prediction(torch.full((1, 1, D), rate, dtype=torch.float64))
    return made(loc.expand(1, rows, D), features(), size).sample(), loc, size


@pytest.mark.parametrize("dispersion", [0.02, 0.2, 0.5, 5.0])
@pytest.mark.parametrize("rate", [0.01, 0.1, 1.0, 30.0, 1000.0])
@torch.no_grad()
def test_residuals_given_the_rate_say_nothing_of_size_or_of_other_variables(rate, dispersion):
    made, depth = model(dispersion=dispersion), torch.tensor([0.1, 1.0, 10.0, 100.0])
    depth = depth.repeat(10_000).unsqueeze(-1)
    x, loc, size = drawn(made, rate, depth, rows=40_000)
    residual = made.residual(x, loc, features(), size)[0]
    assert residual.mean(0).abs().max() < 0.03
    # Of one row in a thousand with a count, the variance is no better known.
    assert (residual.var(0) - 1).abs().max() < (0.25 if rate < 0.1 else 0.15)
    together = torch.cat([residual, depth.log()], 1).mT.corrcoef() - torch.eye(D + 1)
    assert together.abs().max() < 0.03


@pytest.mark.parametrize("dispersion", [0.02, 0.2, 0.5])
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("count", [3.0, 30.0, 1000.0])
@torch.no_grad()
def test_a_ridge_of_many_rows_finds_the_rate(count, size, dispersion):
    made = model(dispersion=dispersion)
    x, loc, sizes = drawn(made, count / size, size, rows=4000)
    response, precision = made.linearize(x, features(), sizes)
    constant = torch.ones(1, D, 4000, 1, dtype=torch.float64)
    found = ridge_solve(constant, response.mT, penalty=1e-3, weight=precision.mT).mT
    assert (made.log_rate(found) - math.log(count / size)).abs().max() < 0.1
    standard = (response - loc) * precision.sqrt()
    assert standard.var(-2).numpy() == pytest.approx(np.ones((1, D)), abs=0.15)


@pytest.mark.parametrize("rate", [0.01, 0.1, 1.0])
@torch.no_grad()
def test_small_rates_have_no_floor(rate):
    made = model(library_size=False)
    x, _, size = drawn(made, rate, 1.0)
    response, precision = made.linearize(x, features(), size)
    found = (response * precision).sum(-2) / precision.sum(-2)
    assert (made.log_rate(found) - math.log(rate)).abs().max() < 0.3


@pytest.mark.parametrize(
    ("dispersion", "factor", "bounds"),
    [
        (0.02, 3.0, (1.0, 2.5)),
        (0.02, 1 / 3, (1.0, 1.6)),
        (0.5, 3.0, (1.0, 1.4)),
        (0.5, 1 / 3, (1.0, 1.4)),
    ],
)
@torch.no_grad()
def test_rates_that_differ_within_a_task_are_too_large_by_what_the_class_says(
    dispersion, factor, bounds
):
    made = model(dispersion=dispersion)
    usual, _, size = drawn(made, 10.0, 1.0)
    other, _, _ = drawn(made, 10.0 * factor, 1.0, rows=500)
    rows, sizes = torch.cat([usual, other], 1), torch.cat([size, size[:, :500]], 1)
    response, _ = made.linearize(rows, features(), sizes)
    found = made.log_rate(response[:, -500:].mean(-2)).exp() / (10 * factor)
    assert (found > 0.9 * bounds[0]).all()
    assert (found < bounds[1]).all()


@given(st.integers(0, 10**12), st.floats(1e-3, 1e3), st.sampled_from([0.011, 0.2, 9.9]))
@torch.no_grad()
def test_precisions_are_bounded_whatever_the_counts(count, size, dispersion):
    made = model(dispersion=dispersion)
    x = torch.tensor([[[count, 0.0, 1.0], [0.0, 3.0, count]]], dtype=torch.float64)
    response, precision = made.linearize(x, features(), torch.full((1, 2, 1), size).double())
    assert response.isfinite().all()
    assert (precision > 0).all()
    assert (precision <= 1.01 * made.deviation.clamp(min=5.0).square() / dispersion).all()


@torch.no_grad()
def test_rows_that_do_not_exist_say_nothing():
    made, (x, _, size) = model(library_size=False), inputs()
    longer, none = torch.cat([x, 0 * x], 1), torch.cat([size, 0 * size], 1)
    for found, expected in zip(
        made.linearize(longer, features(), none), made.linearize(x, features(), size), strict=True
    ):
        torch.testing.assert_close(found[:, :ROWS], expected)
        assert found.isfinite().all()


@pytest.mark.parametrize("library_size", [True, False])
@torch.no_grad()
def test_padding_leaves_readouts_as_they_are(library_size):
    noise = partial(NegativeBinomialNoise, library_size=library_size)
    chain, generator = tiny_chain(noise=noise), torch.Generator().manual_seed(0)
    support = torch.poisson(torch.full((1, 5, D), 0.4), generator)
    support[0, 1] = 0  # a row that exists, without any count
    readouts = []
    for rows in (support, torch.cat([support, torch.zeros(1, 30, D)], 1)):
        mask = torch.arange(rows.shape[1]).unsqueeze(0) < 5
        seen = Predictions(chain.model.mechanisms, chain.model.inputs(rows), torch.zeros(D, D))
        readouts.append(RidgeAdaptation()(chain.model, seen, rows, mask)["readout"])
    torch.testing.assert_close(*readouts)


@torch.no_grad()
def test_a_gene_that_dominates_all_others_is_read_to_its_digits():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.poisson(1e7, 200), rng.poisson(3.0, (200, 2))]).astype(float)
    units = CountUnits.fit(TaskDataset.from_arrays([rows]))
    made = NegativeBinomialNoise(D, F)
    made.set_units(units)
    expected = (
        np.log1p(rows / (rows.sum(1, keepdims=True) / units.total)) - units.mean
    ) / units.scale
    read = made.inputs(torch.tensor(rows[None], dtype=torch.float32))
    assert read.dtype == torch.float32
    np.testing.assert_allclose(read[0], expected, atol=1e-4)


def test_gradients_are_those_of_finite_differences():
    made, (x, loc, size) = model(), inputs()

    def apply(loc, raw_dispersion):
        class Both(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.made = made

            def forward(self):
                law = self.made(loc, features(), size)
                residual = self.made.residual(x, loc, features(), size)
                return law.log_prob(x), residual, *self.made.linearize(x, features(), size)

        return torch.func.functional_call(Both(), {"made.raw_dispersion": raw_dispersion}, ())

    parameter = (0.3 * torch.randn(D, dtype=torch.float64) - 1.5).requires_grad_()
    assert torch.autograd.gradcheck(apply, (loc.requires_grad_(), parameter))


@pytest.mark.parametrize("loc", [-1e4, 1e4])
@pytest.mark.parametrize("count", [0.0, 1e12])
def test_extreme_values_stay_finite(loc, count):
    made = model().float()
    x = torch.full((1, 2, D), count)
    given = torch.full((1, 2, D), loc).requires_grad_()
    size = made.size(x)
    value = made(given, features(), size).log_prob(x)
    response, precision = made.linearize(x, features(), size)
    (gradient,) = torch.autograd.grad(value.sum(), given)
    for found in (value, response, precision, gradient, made.inputs(x)):
        assert found.isfinite().all()


def test_many_draws_are_one_after_the_other():
    made, (x, loc, size) = model(), inputs(draw=(3,))
    together = made(loc, features(draw=(3,)), size).log_prob(x)
    for index in range(3):
        alone = made(loc[index], features(), size).log_prob(x)
        torch.testing.assert_close(together[index], alone)


def test_options_are_saved():
    chosen = partial(NegativeBinomialNoise, dispersion=0.7, library_size=False)
    again = Components.from_json(Components.resolve(noise=chosen).to_json()).build_noise(D)
    assert again.dispersion.tolist() == pytest.approx([0.7] * D)
    assert again.size(torch.full((1, 1, D), 9.0)).item() == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("dispersion", d) for d in (0.0, -1.0, 0.01, 10.0, np.nan, np.inf, "0.2", True, None)),
        ("dispersion", [0.2, 0.3, 0.4]),
        ("dispersion", np.array([0.2, 0.3])),
        *(("library_size", value) for value in ("no", "False", None, 0, 2)),
    ],
)
def test_bad_options_are_refused(option, value):
    with pytest.raises(ConfigError, match=rf"{option}: expected .* got {re.escape(repr(value))}"):
        NegativeBinomialNoise(D, F, **{option: value})


class OtherNoise(GaussianNoise):
    response = "counts"


class MisspeltNoise(CountNoise):
    response = "count"

    def linearize(self, x, features, size):
        return x, None

    def forward(self, loc, features, size):
        return loc


class HastyNoise(MisspeltNoise):
    response = "counts"

    def __init__(self, num_variables, num_features):
        PyroModule.__init__(self)


def test_one_that_was_not_initialised_is_told_to_be():
    with pytest.raises(ConfigError, match=r"noise: .* HastyNoise. Call super\(\).__init__"):
        reads_counts(HastyNoise(D, F))


@pytest.mark.parametrize(
    ("cls", "got"), [(OtherNoise, "'counts' in Other"), (MisspeltNoise, "'count' in Misspelt")]
)
def test_responses_that_no_model_has_are_refused(cls, got):
    with pytest.raises(ConfigError, match=rf"noise: expected response = .* got {got}"):
        MetaCaDI(engine="svi", noise=cls).memory_needed(TaskDataset.from_arrays([[[1.0, 2.0]]] * 2))
