"""Counts are scored by their exact law, and read in units in which a mechanism speaks of rates."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.components import Components
from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models import GaussianNoise, Noise, noise
from pyro_metacadi.models.noise import NegativeBinomialNoise
from pyro_metacadi.models.noise.counts import CountNoise, reads_counts, sizes_of

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


@given(st.floats(0.0, 1e6))
def test_a_prediction_is_the_logarithm_of_a_rate(rate):
    made = model()
    loc = made.standardised(torch.full((D,), rate, dtype=torch.float64).log1p())
    above = loc + made.mean / made.deviation
    found = made.log_rate(loc).exp()
    assert (found > 0).all()
    clear = above > 1  # standard deviations from no count
    np.testing.assert_allclose(found[clear], rate, rtol=0.02)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_rates_grow_with_predictions_and_stay_finite(first, second):
    low, high = (torch.full((D,), loc) for loc in sorted((first, second)))
    rates = [model().log_rate(loc) for loc in (low, high)]
    assert (rates[0] <= rates[1]).all()
    assert torch.stack(rates).isfinite().all()


@pytest.mark.parametrize("dispersion", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("count", [1.0, 5.0, 30.0, 1000.0])
def test_a_ridge_of_many_rows_finds_the_rate(dispersion, count):
    made, size = model(dispersion=dispersion), 200_000
    loc = made.standardised(torch.full((1, 1, D), count, dtype=torch.float64).log1p())
    rate = made.log_rate(loc).exp()
    loc, one = loc.expand(1, size, D), torch.ones(1, size, 1, dtype=torch.float64)
    response, precision = made.linearize(made(loc, features(), one).sample(), features(), one)
    mean = (response * precision).sum(-2) / precision.sum(-2)
    found = (mean * made.deviation + made.mean).expm1() / rate[0]
    assert (found.log().abs() < 0.3).all()
    if count >= 30:
        assert (found.log().abs() < 0.05).all()
        standard = (response - loc) * precision.sqrt()
        assert standard.var(-2).detach().numpy() == pytest.approx(np.ones((1, D)), abs=0.15)


def test_rows_without_any_count_say_that_there_is_none():
    made, none = model(), torch.zeros(1, 1, D, dtype=torch.float64)
    response, precision = made.linearize(none, features(), made.size(none))
    torch.testing.assert_close(response[0, 0], -made.mean / made.deviation)
    assert (precision > 0).all()
    assert precision.isfinite().all()


def test_gradients_are_those_of_finite_differences():
    made, (x, loc, size) = model(), inputs()

    def apply(loc, log_dispersion):
        class Both(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.made = made

            def forward(self):
                law = self.made(loc, features(), size)
                return law.log_prob(x), *self.made.linearize(x, features(), size)

        return torch.func.functional_call(Both(), {"made.log_dispersion": log_dispersion}, ())

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


@pytest.mark.parametrize("dispersion", [0.0, -1.0, 0.006, 200.0, float("nan"), float("inf")])
def test_dispersions_out_of_range_are_refused(dispersion):
    with pytest.raises(ConfigError, match=rf"dispersion: expected .* got {dispersion}"):
        NegativeBinomialNoise(D, F, dispersion=dispersion)


class OtherNoise(GaussianNoise):
    response = "counts"


class MisspeltNoise(CountNoise):
    response = "count"

    def linearize(self, x, features, size):
        return x, None

    def forward(self, loc, features, size):
        return loc


@pytest.mark.parametrize(
    ("cls", "got"), [(OtherNoise, "'counts' in Other"), (MisspeltNoise, "'count' in Misspelt")]
)
def test_responses_that_no_model_has_are_refused(cls, got):
    with pytest.raises(ConfigError, match=rf"noise: expected response = .* got {got}"):
        MetaCaDI(engine="svi", noise=cls).memory_needed(TaskDataset.from_arrays([[[1.0, 2.0]]] * 2))
