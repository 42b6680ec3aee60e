"""What an intervention looks like, against densities in closed form and numerical integration."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import invgamma, multivariate_t, norm, t

from pyro_metacadi.ops.generic_law import (
    MEAN_SCALE,
    RATE,
    SHAPE,
    generic_log_prob,
    generic_row_log_prob,
)
from pyro_metacadi.ops.law import PRIOR_SHARE, SMALLEST_SCALE, InterventionLaw
from pyro_metacadi.ops.moments import Moments
from pyro_metacadi.ops.rows import TaskRows
from pyro_metacadi.ops.task_values import TaskValues

SEEDS = st.integers(0, 2**32)


def moments_of(values, prediction):
    return Moments.of(values, prediction, spread=0.0)


def floats(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def rows_of(sizes):
    nothing = torch.zeros(sum(sizes), 0, dtype=torch.float64)
    return TaskRows(nothing, nothing, tuple(sizes))


def values_of(x, sizes, *, weight=None, scale=(1.0, 2.5), offset=(0.0, 4.0)):
    rows = rows_of(sizes)
    weight = torch.ones(len(sizes), dtype=torch.float64) if weight is None else weight
    units = {"scale": floats(*scale[: len(x)]), "offset": floats(*offset[: len(x)])}
    return TaskValues.of(x, rows, weight=weight, **units)


def some_values(sizes=(3, 1, 4), *, seed=0, **options):
    """Values of two variables with a prediction of each, and noise variances."""
    x, prediction = normal(2, sum(sizes), seed=seed), normal(2, sum(sizes), seed=seed + 1)
    return values_of(x, sizes, **options), prediction, floats(0.3, 0.8)


LAW = InterventionLaw(
    slope=floats(0.5, 0.0),
    intercept=floats(0.2, -1.0),
    scale=floats(1.5, 0.7),
    shift=floats(0.8, 0.0),
    relative=torch.tensor([True, False]),
    weight=floats(0.5, 0.3, 0.2),
)


def only(k):
    """The law with one of its components alone."""
    weight = floats(0, 0, 0)
    weight[k] = 1
    return replace(LAW, weight=weight)


# The generic law


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), SEEDS)
def test_the_generic_density_is_a_multivariate_t(sizes, seed):
    x = 2 * normal(2, sum(sizes), seed=seed)
    ones = torch.ones(len(sizes), dtype=torch.float64)
    got = generic_log_prob(x, rows_of(sizes), weight=ones)
    for s in range(2):
        for task, part in enumerate(x[s].split(sizes)):
            n = len(part)
            shape = RATE / SHAPE * (np.eye(n) + MEAN_SCALE * np.ones((n, n)))
            law = multivariate_t(np.zeros(n), shape, df=2 * SHAPE)
            assert float(got[s, task]) == pytest.approx(law.logpdf(part.numpy()), abs=1e-8)


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_rows_that_count_less_are_powers_of_densities(weight):
    x = floats(0.4, -0.2, 1.1)
    # Over the logarithm of the variance, and the mean in standard deviations.
    log_variance, u = np.linspace(-8, 14, 600)[:, None], np.linspace(-12, 12, 600)
    variance, mean = np.exp(log_variance), u * np.exp(log_variance / 2)
    density = norm.pdf(mean, 0, np.sqrt(MEAN_SCALE * variance))
    density *= invgamma.pdf(variance, SHAPE, scale=RATE) * variance**1.5
    for value in x.tolist():
        density *= norm.pdf(value, mean, np.sqrt(variance)) ** weight
    total = np.trapezoid(np.trapezoid(density, u), log_variance[:, 0])
    got = generic_log_prob(x[None], rows_of([3]), weight=floats(weight))
    assert float(got) == pytest.approx(math.log(total), abs=1e-5)


def test_a_task_of_rows_that_count_nothing_says_nothing():
    got = generic_log_prob(normal(2, 5, seed=0), rows_of([3, 2]), weight=floats(0, 0))
    torch.testing.assert_close(got, torch.zeros(2, 2, dtype=torch.float64))


def test_a_rows_generic_density_is_that_of_one_more_row_at_its_place():
    x, sizes = normal(1, 7, seed=3), (4, 3)
    got = generic_row_log_prob(x, rows_of(sizes))[0]
    at = 0
    for size in sizes:
        part = x[:, at : at + size]
        for row in range(size):
            longer = torch.cat([part, part[:, row : row + 1]], -1)
            joint = generic_log_prob(longer, rows_of([size + 1]), weight=floats(1))
            one_more = joint - generic_log_prob(part, rows_of([size]), weight=floats(1))
            assert float(got[at + row]) == pytest.approx(float(one_more), abs=1e-9)
        at += size


@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_equal_values_have_a_finite_density(value):
    x = torch.full((1, 7), value, dtype=torch.float32)
    ones = floats(1, 1)
    assert generic_log_prob(x, rows_of([4, 3]), weight=ones).isfinite().all()
    assert generic_row_log_prob(x, rows_of([4, 3])).isfinite().all()


# The mixture


@pytest.mark.parametrize("weight", [(1.0, 1.0, 1.0), (0.2, 1.0, 0.5)])
def test_components_are_normal_in_the_laws_units(weight):
    values, prediction, noise = some_values(weight=floats(*weight))
    got = LAW.component_log_prob(values, prediction, noise)
    assert got.shape == (3, 2, 3)
    for k, s in product(range(2), range(2)):
        residual, deviation, shift = residuals(values, prediction, noise, k=k, s=s)
        for task, part in enumerate(residual.split(values.rows.sizes)):
            expected = integrated(part, deviation, shift, weight=float(values.weight[task]))
            # Densities of standardised values, as those of the observational mechanism are.
            expected += weight[task] * len(part) * values.scale[s].log() + LAW.weight[k].log()
            assert float(got[k, s, task]) == pytest.approx(float(expected), abs=1e-6)
    torch.testing.assert_close(got[2], values.generic + LAW.weight[2].log())
    torch.testing.assert_close(LAW.log_prob(values, prediction, noise), got.logsumexp(0))


def residuals(values, prediction, noise, *, k, s):
    """What component k leaves of set s in the law's units, and deviations of rows and of tasks."""
    scale, offset = values.scale[s], values.offset[s]
    x, f = scale * values.x[s] + offset, scale * prediction[s] + offset
    unit = float(noise[s].sqrt() * scale) if LAW.relative[k] else 1.0
    left = x - LAW.slope[k] * f - LAW.intercept[k]
    return left, float(LAW.scale[k]) * unit, float(LAW.shift[k]) * unit


def integrated(residual, deviation, shift, *, weight):
    """Log density of a task's residuals around a shift of its own, integrated out numerically."""
    u = shift * np.linspace(-12, 12, 20_001)
    around = norm.logpdf(residual.numpy(), u[:, None], deviation).sum(1)
    if shift == 0:
        return weight * float(around[0])
    joint = np.exp(weight * around - (weight * around).max()) * norm.pdf(u, 0, shift)
    return math.log(np.trapezoid(joint, u)) + (weight * around).max()


@pytest.mark.parametrize("law", [only(0), only(1), only(2), LAW])
@pytest.mark.parametrize("unit", [(1.0, 0.0), (2.5, 4.0)])
def test_the_density_of_one_row_integrates_to_one(law, unit):
    grid = torch.linspace(-2000, 2000, 400_001, dtype=torch.float64).unsqueeze(0)
    fine = torch.linspace(-8, 8, 4001, dtype=torch.float64).unsqueeze(0)
    mass = []
    for x in (grid, fine):
        values = values_of(x, [1] * x.shape[1], scale=unit[:1], offset=unit[1:])
        density = law.log_prob(values, torch.full_like(x, 0.3), floats(0.2)).exp()
        mass.append(float(torch.trapezoid(density[0], x[0])))
    # A generic value is t-distributed: 1e-3 of it lies beyond 2000.
    assert mass[0] == pytest.approx(1, abs=2e-3)
    assert mass[1] <= 1 + 1e-6


def test_a_rows_density_is_the_mixture_that_its_task_has_chosen():
    values, prediction, noise = some_values()
    got = LAW.row_log_prob(values, prediction, noise)
    share = torch.softmax(LAW.component_log_prob(values, prediction, noise), 0)
    sizes, task = values.rows.sizes, np.repeat(np.arange(3), values.rows.sizes)
    for s in range(2):
        parts = []
        for k in range(2):
            residual, deviation, shift = residuals(values, prediction, noise, k=k, s=s)
            around = [one_more(part, deviation, shift) for part in residual.split(sizes)]
            parts.append(np.concatenate(around) * float(values.scale[s]))
        parts.append(generic_row_log_prob(values.x, values.rows)[s].exp().numpy())
        expected = sum(share[k, s].numpy()[task] * part for k, part in enumerate(parts))
        np.testing.assert_allclose(got[s].exp(), expected, rtol=1e-9)
    assert got.shape == (2, sum(sizes))


def one_more(residual, deviation, shift):
    """Density of one more residual at each one's place, given its task's."""
    n, variance, own = len(residual), deviation**2, shift**2
    joint = variance * np.eye(n + 1) + own
    gain = joint[n, :n] @ np.linalg.inv(joint[:n, :n])
    left = joint[n, n] - gain @ joint[:n, n]
    return norm.pdf(residual.numpy(), gain @ residual.numpy(), math.sqrt(left))


def test_the_generic_rows_density_integrates_to_one_given_its_task():
    # What `generic_row_log_prob` evaluates: Student's t of these parameters.
    x = normal(1, 4, seed=2)
    n, mean, variance = 4, float(x.mean()), float(x.var(correction=0))
    shrunk = 1 + n * MEAN_SCALE
    shape, rate = SHAPE + n / 2, RATE + n / 2 * (variance + mean**2 / shrunk)
    law = t(
        2 * shape,
        n * MEAN_SCALE * mean / shrunk,
        math.sqrt(rate / shape * (1 + MEAN_SCALE / shrunk)),
    )
    expected = law.logpdf(x[0].numpy())
    np.testing.assert_allclose(generic_row_log_prob(x, rows_of([4]))[0], expected, rtol=1e-9)
    assert quad(law.pdf, -np.inf, np.inf)[0] == pytest.approx(1)


@given(st.floats(0.01, 100), SEEDS)
def test_the_choice_of_common_units_does_not_matter(factor, seed):
    values, prediction, noise = some_values(seed=seed)
    there, _, _ = some_values(seed=seed, scale=(factor, 2.5 * factor), offset=(0.0, 4.0 * factor))
    # Relative scales are in units of noise and stay; the rest is in common units.
    scale, shift = (torch.where(LAW.relative, one, one * factor) for one in (LAW.scale, LAW.shift))
    law = replace(LAW, intercept=LAW.intercept * factor, scale=scale, shift=shift)
    for method in ("component_log_prob", "row_log_prob"):
        expected = getattr(LAW, method)(values, prediction, noise)
        torch.testing.assert_close(getattr(law, method)(there, prediction, noise), expected)
    hit = torch.rand(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    here, away = (
        one.updated(moments_of(v, prediction), noise, hit=hit)
        for one, v in ((LAW, values), (law, there))
    )
    torch.testing.assert_close((away.slope, away.weight), (here.slope, here.weight))
    torch.testing.assert_close(away.intercept, here.intercept * factor)
    loose = (here.scale > SMALLEST_SCALE) & (away.scale > SMALLEST_SCALE)
    for name in ("scale", "shift"):
        expected = torch.where(law.relative, getattr(here, name), getattr(here, name) * factor)
        torch.testing.assert_close(getattr(away, name)[loose], expected[loose])


# Learning


def expected_log_prob(law, at, values, prediction, noise, *, hit):
    """Complete log-likelihood of `law`, expected under the shares of the components of `at`."""
    share = torch.softmax(at.component_log_prob(values, prediction, noise), 0) * hit
    prior = PRIOR_SHARE * law.weight.log().sum()
    return float((share * law.component_log_prob(values, prediction, noise)).sum() + prior)


@given(SEEDS)
def test_a_step_increases_the_expected_complete_log_likelihood(seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(5, generator=generator, dtype=torch.float64)
    values, prediction, noise = some_values((3, 1, 4, 6, 2), seed=seed, weight=weight)
    hit = torch.rand(2, 5, generator=generator, dtype=torch.float64)
    law = LAW
    for _ in range(3):
        new = law.updated(moments_of(values, prediction), noise, hit=hit)
        before, after = (
            expected_log_prob(one, law, values, prediction, noise, hit=hit) for one in (law, new)
        )
        assert after >= before - 1e-9
        assert new.weight.sum() == pytest.approx(1)
        assert (new.weight > 0).all()
        law = new


def test_steps_never_lower_the_likelihood_of_the_hits():
    values, prediction, noise = some_values((5,) * 8, seed=4)
    hit, law, found = torch.ones(2, 8, dtype=torch.float64), LAW, []
    for _ in range(15):
        prior = PRIOR_SHARE * law.weight.log().sum()
        found.append(float(law.log_prob(values, prediction, noise).sum() + prior))
        law = law.updated(moments_of(values, prediction), noise, hit=hit)
    assert (np.diff(found) >= -1e-9).all()


def simulated(*, slope, intercept, scale, relative, shift=0.0, num_tasks=60, size=10):
    """Values in tasks that all hit both variables."""
    sizes = [size] * num_tasks
    unit, offset, noise = floats(1.0, 2.5), floats(3.0, 4.0), floats(0.3, 0.8)
    prediction = normal(2, sum(sizes), seed=1)
    f = unit.unsqueeze(-1) * prediction + offset.unsqueeze(-1)
    deviation = noise.sqrt() * unit if relative else torch.ones(2, dtype=torch.float64)
    own = shift * normal(2, num_tasks, seed=3).repeat_interleave(size, dim=1)
    around = own + scale * normal(2, sum(sizes), seed=2)
    x = slope * f + intercept + deviation.unsqueeze(-1) * around
    standardised = (x - offset.unsqueeze(-1)) / unit.unsqueeze(-1)
    values = values_of(standardised, sizes, scale=(1.0, 2.5), offset=(3.0, 4.0))
    return values, prediction, noise


def test_predictions_of_nothing_but_zero_leave_the_slope():
    x = normal(1, 20, seed=0)
    values = values_of(x, [5] * 4)
    zero, hit = torch.zeros_like(x), torch.ones(1, 4, dtype=torch.float64)
    law = only(1).updated(moments_of(values, zero), floats(0.3), hit=hit)
    assert law.slope[1] == LAW.slope[1]
    assert law.intercept[1].item() == pytest.approx(x.mean().item(), abs=1e-4)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(
    ("slope", "intercept", "scale", "shift"),
    [(0.5, 0.0, 1.0, 0.0), (0.0, 2.0, 0.5, 0.0), (1.0, -1.5, 1.3, 0.0), (0.0, 1.0, 0.5, 3.0)],
)
def test_the_law_of_simulated_hits_is_found_again(slope, intercept, scale, shift, relative):
    values, prediction, noise = simulated(
        slope=slope, intercept=intercept, scale=scale, shift=shift, relative=relative
    )
    law = InterventionLaw(
        *(floats(start) for start in (0.6, 0.3, 1.0, 0.5)),
        relative=torch.tensor([relative]),
        weight=floats(0.5, 0.5),
    )
    for _ in range(40):
        law = law.updated(
            moments_of(values, prediction),
            noise,
            hit=torch.ones(2, 60, dtype=torch.float64),
        )
    assert law.slope.item() == pytest.approx(slope, abs=0.05)
    assert law.intercept.item() == pytest.approx(intercept, abs=0.2 + shift / 5)
    assert law.scale.item() == pytest.approx(scale, rel=0.05)
    assert law.shift.item() == pytest.approx(shift, abs=0.2 * scale, rel=0.2)
    assert law.weight[0] > 0.95


def test_two_laws_in_one_system_are_told_apart():
    halved = simulated(slope=0.5, intercept=0.0, scale=1.0, relative=True)
    removed = simulated(slope=0.0, intercept=0.0, scale=0.1, relative=False, num_tasks=30)
    sizes = [10] * 90
    x = torch.cat([halved[0].x, removed[0].x], -1)
    values = values_of(x, sizes, scale=(1.0, 2.5), offset=(3.0, 4.0))
    prediction, hit = torch.cat([halved[1], removed[1]], -1), torch.ones(2, 90).double()
    law = LAW
    for _ in range(30):
        law = law.updated(moments_of(values, prediction), halved[2], hit=hit)
    np.testing.assert_allclose(law.slope, [0.5, 0], atol=0.05)
    np.testing.assert_allclose(law.intercept, [0, 0], atol=0.2)
    np.testing.assert_allclose(law.weight[:2], [2 / 3, 1 / 3], atol=0.02)


def test_a_component_that_explains_less_than_a_row_stays():
    values, prediction, noise = some_values()
    law = LAW.updated(
        moments_of(values, prediction),
        noise,
        hit=torch.zeros(2, 3, dtype=torch.float64),
    )
    for name in ("slope", "intercept", "scale", "shift"):
        assert getattr(law, name).tolist() == getattr(LAW, name).tolist()
    torch.testing.assert_close(law.weight, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_predictions_that_do_not_vary_and_hits_without_noise_leave_a_law():
    x = torch.zeros(2, 20, dtype=torch.float64)
    values = values_of(x, [5] * 4, scale=(1.0, 1.0), offset=(2.0, 2.0))
    law = LAW
    for _ in range(5):
        law = law.updated(
            moments_of(values, x),
            floats(0.3, 0.8),
            hit=torch.ones(2, 4, dtype=torch.float64),
        )
        for name in ("slope", "intercept", "scale", "shift", "weight"):
            assert getattr(law, name).isfinite().all()
    assert law.scale.min() == pytest.approx(SMALLEST_SCALE)
    # x = 2 wherever the prediction is 2: any a and b with 2 a + b = 2 fit.
    explaining = law.weight[:2].argmax()
    assert 2 * law.slope[explaining] + law.intercept[explaining] == pytest.approx(2, abs=0.01)
