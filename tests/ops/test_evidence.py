"""Evidence of mechanisms against multivariate normal densities, integration and enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from pyro_metacadi.ops.design import Design
from pyro_metacadi.ops.evidence import (
    LOG_2PI,
    NOISE_PRIOR_ROWS,
    NOISE_PRIOR_VARIANCE,
    Mechanism,
    fit_mechanism,
    kish_weight,
    regress,
)
from pyro_metacadi.ops.kernels import Kernel
from pyro_metacadi.ops.nystroem import mechanism_features
from pyro_metacadi.ops.rows import TaskRows

SEEDS = st.integers(0, 2**32)
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=5)
inf = math.inf


def floats(*values):
    return torch.tensor(values, dtype=torch.float64)


def generator_of(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed):
    return torch.randn(*shape, generator=generator_of(seed), dtype=torch.float64)


def rows_of(sizes, *, dtype=torch.float64):
    nothing = torch.zeros(sum(sizes), 0, dtype=dtype)
    return TaskRows(nothing, nothing, tuple(sizes))


def designed(sizes, *, num_features=3, num_sets=2, seed=0):
    features = normal(num_sets, sum(sizes), num_features, seed=seed)
    x = normal(num_sets, sum(sizes), seed=seed + 1)
    return Design.of(features, x, rows_of(sizes))


def world(sizes, *, hit=(), num_features=4, seed=0, noise=0.4, halved=False):
    """One variable that follows its features, but for tasks that hit it: halved, or N(3, 1/4)."""
    features, rows = normal(1, sum(sizes), num_features, seed=seed), rows_of(sizes)
    signal = features @ (1 + normal(num_features, seed=seed + 1).abs())
    mask = rows.spread(floats(*(float(t in hit) for t in range(len(sizes)))))
    replaced = signal / 2 if halved else 3 + 0.3 * normal(sum(sizes), seed=seed + 3)
    x = torch.where(mask > 0, replaced, signal) + noise * normal(sum(sizes), seed=seed + 2)
    return Design.of(features, x, rows)


def absolute_law(design, *, weight, center=3.0, scale=1.0):
    """Density of a hit task's values that depends on nothing that is fitted."""
    squares = design.rows.sum((design.x - center).double().square())
    log_prob = -0.5 * (design.rows.num_rows * (LOG_2PI + 2 * math.log(scale)) + squares / scale**2)
    return lambda prediction, noise, spread: weight * log_prob


def halving_law(design, *, weight):
    """Density of a hit task's values around half of what the mechanism predicts."""

    def log_prob(prediction, noise, spread):
        squares = design.rows.sum((design.x - prediction / 2).double().square()) + spread / 4
        variance = 1.5 * noise.unsqueeze(-1)
        return (
            -0.5 * weight * (design.rows.num_rows * (LOG_2PI + variance.log()) + squares / variance)
        )

    return log_prob


def law_at_end(hit_law, design, mechanism):
    """What the law says of every task under the fitted mechanism."""
    spread = design.spread(mechanism.covariance)
    return hit_law(design.predict(mechanism.mean), mechanism.noise_variance, spread)


def log_odds(probability, *shape):
    return torch.full(shape, math.log(probability / (1 - probability)), dtype=torch.float64)


# Regression


@given(SIZES, st.integers(1, 6), SEEDS)
def test_evidence_of_whole_tasks_is_a_multivariate_normal_density(sizes, num_features, seed):
    design = designed(sizes, num_features=num_features, seed=seed)
    generator, noise = generator_of(seed), floats(0.3, 1.7)
    weight = torch.randint(2, (2, len(sizes)), generator=generator).double()
    got = regress(design, weight, noise_variance=noise).log_evidence
    for s in range(2):
        kept = design.rows.spread(weight)[s] > 0
        phi, x = design.features[s, kept], design.x[s, kept]
        covariance = phi @ phi.T + noise[s] * torch.eye(len(x), dtype=torch.float64)
        zero = torch.zeros_like(x)
        expected = 0.0
        if len(x):
            law = torch.distributions.MultivariateNormal(zero, covariance)
            expected = float(law.log_prob(x))
        assert float(got[s]) == pytest.approx(expected, rel=1e-8, abs=1e-8)


@settings(max_examples=20)
@given(SEEDS, st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_evidence_of_fractional_rows_is_the_integral_over_the_weight(seed, fractions):
    design = designed((2, 1, 3), num_features=1, num_sets=1, seed=seed)
    weight, noise = floats(*fractions).unsqueeze(0), 0.4
    fit = regress(design, weight, noise_variance=floats(noise))
    phi, x = design.features[0, :, 0].numpy(), design.x[0].numpy()
    power = design.rows.spread(weight)[0].numpy()

    def density(w):
        return np.exp(norm.logpdf(w) + power @ norm.logpdf(x, phi * w, math.sqrt(noise)))

    mean, deviation = float(fit.mean), float(fit.covariance) ** 0.5
    limits = mean - 12 * deviation, mean + 12 * deviation
    total = quad(density, *limits, epsabs=0)[0]
    assert float(fit.log_evidence) == pytest.approx(math.log(total), abs=1e-6)
    first = quad(lambda w: w * density(w), *limits, epsabs=1e-12 * total)[0] / total
    second = quad(lambda w: (w - first) ** 2 * density(w), *limits, epsabs=0)[0] / total
    assert (mean, deviation**2) == pytest.approx((first, second), abs=1e-6)


def test_the_posterior_of_the_weights_is_the_textbooks():
    design, noise = designed((4, 2, 5), num_sets=1), floats(0.3)
    weight = floats(1, 0.25, 0.5).unsqueeze(0)
    fit = regress(design, weight, noise_variance=noise)
    phi, x = design.features[0].numpy(), design.x[0].numpy()
    power = np.diag(design.rows.spread(weight)[0].numpy())
    covariance = np.linalg.inv(np.eye(3) + phi.T @ power @ phi / 0.3)
    np.testing.assert_allclose(fit.covariance[0], covariance, rtol=1e-10)
    np.testing.assert_allclose(fit.mean[0], covariance @ phi.T @ power @ x / 0.3, rtol=1e-10)
    np.testing.assert_allclose(fit.prediction[0], phi @ fit.mean[0].numpy(), rtol=1e-10)
    residual = np.split(x - fit.prediction[0].numpy(), [4, 6])
    np.testing.assert_allclose(fit.square_error[0], [(e**2).sum() for e in residual], rtol=1e-10)


def test_without_rows_the_posterior_is_the_prior():
    design = designed((4, 2))
    fit = regress(design, torch.zeros(2, 2, dtype=torch.float64), noise_variance=floats(0.1, 1))
    assert (fit.mean == 0).all()
    assert (fit.covariance == torch.eye(3, dtype=torch.float64)).all()
    assert (fit.log_evidence == 0).all()


# Mechanism and targets


def exact_log_evidence(design, mechanism, *, weight, prior, hit):
    """Sum over all patterns of targets, at the mechanism's noise variance."""
    terms = []
    for pattern in itertools.product((0.0, 1.0), repeat=design.rows.num_tasks):
        m = floats(*pattern).unsqueeze(0)
        free = regress(design, (1 - m) * weight, noise_variance=mechanism.noise_variance)
        log_prior = torch.where(m > 0, torch.sigmoid(prior), torch.sigmoid(-prior)).log().sum(-1)
        # 0 times -inf does not occur: densities of hits are finite.
        terms.append(free.log_evidence + (m * hit).sum(-1) + log_prior)
    return torch.stack(terms).logsumexp(0)


WORLDS = [
    ((12,) * 8, ()),
    ((12,) * 8, (2,)),
    ((3, 3, 10, 10, 1, 25), (1, 3)),
    ((1, 1, 1, 30), (0,)),
    ((5, 4), (1,)),
]
LAWS = pytest.mark.parametrize("law", [absolute_law, halving_law])


@pytest.mark.parametrize(("law", "closeness"), [(absolute_law, 0.4), (halving_law, 0.8)])
@pytest.mark.parametrize(("sizes", "hit"), WORLDS)
@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_the_score_bounds_the_sum_over_patterns_closely(sizes, hit, correlation, law, closeness):
    for seed in range(3):
        design = world(sizes, hit=hit, seed=10 * seed, halved=law is halving_law)
        weight = kish_weight(design.rows.num_rows, correlation)
        prior, hit_law = log_odds(0.2, 1, len(sizes)), law(design, weight=weight)
        mechanism = fit_mechanism(design, weight=weight, prior_log_odds=prior, hit_law=hit_law)
        at_end = law_at_end(hit_law, design, mechanism)
        exact = exact_log_evidence(design, mechanism, weight=weight, prior=prior, hit=at_end)
        gap = float(exact - mechanism.score)
        assert -1e-8 <= gap <= closeness


@LAWS
def test_the_score_is_a_bound_where_the_law_does_not_fit_the_hits_either(law):
    # It need not be close: the targets found are one explanation of several.
    for seed in range(3):
        design = world((12,) * 6, hit=(1, 3), seed=seed, halved=law is absolute_law)
        weight, prior = torch.ones(6, dtype=torch.float64), log_odds(0.2, 1, 6)
        hit_law = law(design, weight=weight)
        fitted = fit_mechanism(design, weight=weight, prior_log_odds=prior, hit_law=hit_law)
        at_end = law_at_end(hit_law, design, fitted)
        exact = exact_log_evidence(design, fitted, weight=weight, prior=prior, hit=at_end)
        assert float(fitted.score) <= float(exact) + 1e-8


def test_updates_never_lower_the_bound_where_hits_do_not_depend_on_what_is_fitted():
    for seed, (sizes, hit) in enumerate(WORLDS):
        design = world(sizes, hit=hit, seed=seed)
        weight = kish_weight(design.rows.num_rows, 0.1)
        prior, law = log_odds(0.2, 1, len(sizes)), absolute_law(design, weight=weight)
        bounds = []
        for num_iterations in range(1, 12):
            fitted = fit_mechanism(
                design,
                weight=weight,
                prior_log_odds=prior,
                hit_law=law,
                num_iterations=num_iterations,
            )
            bounds.append(float(fitted.score + noise_log_prior(fitted.noise_variance)))
        assert (np.diff(bounds) >= -1e-9).all()


def noise_log_prior(variance):
    """What the noise maximises together with the bound; the score leaves it out."""
    return -NOISE_PRIOR_ROWS / 2 * (variance.log() + NOISE_PRIOR_VARIANCE / variance)


def test_the_noise_variance_is_where_bound_and_prior_are_largest():
    design = world((12,) * 6, hit=(1,), seed=5)
    weight, prior = torch.ones(6, dtype=torch.float64), log_odds(0.2, 1, 6)
    fitted = fit_mechanism(
        design,
        weight=weight,
        prior_log_odds=prior,
        hit_law=absolute_law(design, weight=weight),
        num_iterations=200,
    )

    def objective(variance):
        free = (1 - fitted.target_probability) * weight
        return regress(design, free, noise_variance=variance).log_evidence + noise_log_prior(
            variance
        )

    best = objective(fitted.noise_variance)
    for factor in (0.99, 1.01):
        assert objective(fitted.noise_variance * factor) < best


@LAWS
def test_tasks_that_hit_are_found(law):
    design = world((12,) * 8, hit=(2, 5), halved=law is halving_law)
    weight = torch.ones(8, dtype=torch.float64)
    probability = fit_mechanism(
        design,
        weight=weight,
        prior_log_odds=log_odds(0.1, 1, 8),
        hit_law=law(design, weight=weight),
    ).target_probability[0]
    assert (probability > 0.5).nonzero().flatten().tolist() == [2, 5]


def own_law(design, *, weight):
    """Density of a hit task's values about their own mean, with their own variance."""
    size = design.rows.num_rows
    mean = design.rows.sum(design.x.double()) / size
    squares = design.rows.sum(design.x.double().square()) - size * mean.square()
    variance = 0.01 + squares / size
    log_prob = -0.5 * (size * (LOG_2PI + variance.log()) + squares / variance) - 5.0
    return lambda prediction, noise, spread: weight * log_prob


@pytest.mark.parametrize("seed", range(5))
def test_one_task_that_is_far_off_does_not_make_all_others_look_hit(seed):
    """As long as it counts, noise looks large, and their own law says more of any task's rows."""
    design = world((50,) * 12, hit=(), seed=seed)
    far = torch.where(design.rows.spread(floats(*([1.0] + [0.0] * 11))) > 0, 40.0, 0.0)
    design = Design.of(design.features, design.x + far, design.rows)
    weight, prior = torch.ones(12, dtype=torch.float64), log_odds(0.05, 1, 12)
    mechanism = fit_mechanism(
        design, weight=weight, prior_log_odds=prior, hit_law=own_law(design, weight=weight)
    )
    assert mechanism.target_probability.round().tolist() == [[1.0] + [0.0] * 11]


def test_a_variable_that_many_tasks_hit_is_hit_by_many():
    design = world((50,) * 12, hit=range(7))
    weight, prior = torch.ones(12, dtype=torch.float64), log_odds(0.3, 1, 12)
    mechanism = fit_mechanism(
        design, weight=weight, prior_log_odds=prior, hit_law=absolute_law(design, weight=weight)
    )
    assert mechanism.target_probability.round().tolist() == [[1.0] * 7 + [0.0] * 5]


@LAWS
def test_known_targets_are_certain_whatever_the_data_say(law):
    design = world((12,) * 6, hit=(0, 1))
    weight = torch.ones(6, dtype=torch.float64)
    prior = floats(-inf, -1, inf, -inf, inf, -1).unsqueeze(0)
    hit_law = law(design, weight=weight)
    fitted = fit_mechanism(design, weight=weight, prior_log_odds=prior, hit_law=hit_law)
    assert fitted.target_probability[0, [0, 2, 3, 4]].tolist() == [0, 1, 0, 1]
    assert all(part.isfinite().all() for part in fitted)
    at_end = law_at_end(hit_law, design, fitted)
    exact = exact_log_evidence(design, fitted, weight=weight, prior=prior, hit=at_end)
    assert float(fitted.score) <= float(exact) + 1e-8


def test_knowing_every_target_gives_the_exact_evidence():
    design = world((4, 7, 3), hit=(1,))
    weight = torch.ones(3, dtype=torch.float64)
    prior = floats(-inf, inf, -inf).unsqueeze(0)
    hit_law = absolute_law(design, weight=weight)
    fitted = fit_mechanism(design, weight=weight, prior_log_odds=prior, hit_law=hit_law)
    free = regress(design, floats(1, 0, 1).unsqueeze(0), noise_variance=fitted.noise_variance)
    expected = free.log_evidence + hit_law(None, None, None)[:, 1]
    torch.testing.assert_close(fitted.score, expected)


def test_hit_by_every_task_a_mechanism_is_its_prior():
    design = world((4, 7, 3))
    weight = torch.ones(3, dtype=torch.float64)
    fitted = fit_mechanism(
        design,
        weight=weight,
        prior_log_odds=torch.full((1, 3), inf, dtype=torch.float64),
        hit_law=absolute_law(design, weight=weight),
    )
    assert (fitted.mean == 0).all()
    assert fitted.noise_variance.item() == pytest.approx(NOISE_PRIOR_VARIANCE)
    assert fitted.score.isfinite().all()


def test_the_order_of_tasks_does_not_matter():
    sizes, order = (3, 8, 8, 1, 5), [4, 1, 3, 0, 2]
    design = world(sizes, hit=(1,))
    starts = np.cumsum((0, *sizes))
    at = np.concatenate([np.arange(starts[t], starts[t + 1]) for t in order])
    rows = rows_of([sizes[t] for t in order])
    other = Design.of(design.features[:, at], design.x[:, at], rows)
    prior = floats(-1, -2, -1, 0, -3).unsqueeze(0)
    found = []
    for one, log_prior in ((design, prior), (other, prior[:, order])):
        weight = kish_weight(one.rows.num_rows, 0.2)
        law = absolute_law(one, weight=weight)
        found.append(fit_mechanism(one, weight=weight, prior_log_odds=log_prior, hit_law=law))
    by_task = ("target_probability", "log_ratio", "free")
    expected = found[0]._replace(**{name: getattr(found[0], name)[:, order] for name in by_task})
    torch.testing.assert_close(tuple(found[1]), tuple(expected))


def test_sets_in_one_batch_are_the_sets_one_by_one():
    designs = [world((3, 8, 8, 1), hit=(1,), seed=seed) for seed in (0, 10, 20)]
    rows, weight = designs[0].rows, torch.ones(4, dtype=torch.float64)
    together = Design.of(
        torch.cat([one.features for one in designs]), torch.cat([one.x for one in designs]), rows
    )

    def fitted(design):
        law = absolute_law(design, weight=weight)
        prior = log_odds(0.1, len(design.x), 4)
        return fit_mechanism(design, weight=weight, prior_log_odds=prior, hit_law=law)

    single = Mechanism(*map(torch.cat, zip(*map(fitted, designs), strict=True)))
    torch.testing.assert_close(tuple(fitted(together)), tuple(single))


def nearly_exact(noise, kernel, sizes, *, dtype):
    """A smooth function of two columns plus noise, standardised; beside them a useless one."""
    n = sum(sizes)
    z = normal(n, 3, seed=0)
    x = torch.sin(z[:, 0]) + z[:, 1] + noise * normal(n, seed=1)
    x = ((x - x.mean()) / x.std(correction=0)).to(dtype)
    rows = TaskRows(z.to(dtype), z[:, :0].to(dtype), sizes)
    masks = torch.tensor([[True, True, False], [True, False, True]])
    features = mechanism_features(rows.x, rows.x[:48], masks, kernel)
    return Design.of(features, x.expand(2, -1), rows)


@pytest.mark.parametrize("kernel", [Kernel(2.0, 1.0), Kernel(2.0, 1.0, long_share=0.5)])
@pytest.mark.parametrize("sizes", [(110,) * 20, (500,) * 20])
@pytest.mark.parametrize(("noise", "tolerance"), [(0.3, 0.01), (0.03, 0.15), (0.0, 1.0)])
def test_scores_in_single_precision_are_near_those_in_double(noise, tolerance, sizes, kernel):
    weight = torch.ones(20, dtype=torch.float64)
    found = []
    for dtype in (torch.float64, torch.float32):
        design = nearly_exact(noise, kernel, sizes, dtype=dtype)
        law = absolute_law(design, weight=weight)
        prior = log_odds(0.05, 2, 20)
        found.append(fit_mechanism(design, weight=weight, prior_log_odds=prior, hit_law=law))
    double, single = found
    assert single.score.dtype == torch.float64
    assert (single.score - double.score).abs().max() < tolerance * sum(sizes) / 2200
    torch.testing.assert_close(single.noise_variance, double.noise_variance, rtol=0.01, atol=0)
    torch.testing.assert_close(
        single.target_probability, double.target_probability, rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("value", [0.0, 47.0])
def test_many_equal_values_have_finite_scores(value):
    """Rounding of the sums of ten thousand rows, over the least noise, would exceed the prior."""
    sizes = (500,) * 20
    z = normal(sum(sizes), 2, seed=0).float()
    masks = torch.tensor([[True, False], [True, True]])
    features = mechanism_features(z, z[:72], masks, Kernel(1.0, 1.0))
    rows = TaskRows(z, z[:, :0], sizes)
    for x in (torch.full((2, len(z)), value), z[:, 0].expand(2, -1)):
        design = Design.of(features, x, rows)
        weight = torch.ones(20, dtype=torch.float64)
        law, prior = absolute_law(design, weight=weight), log_odds(0.1, 2, 20)
        fitted = fit_mechanism(design, weight=weight, prior_log_odds=prior, hit_law=law)
        assert all(part.isfinite().all() for part in fitted)


@pytest.mark.parametrize("value", [0.0, 1.0, 47.0])
def test_a_constant_variable_and_collinear_features_have_finite_scores(value):
    column = normal(1, 30, 1, seed=0).float()
    features = torch.cat([column, column, torch.ones_like(column)], -1)
    design = Design.of(features, torch.full((1, 30), value), rows_of((10, 20), dtype=torch.float32))
    weight = torch.ones(2, dtype=torch.float64)
    law = absolute_law(design, weight=weight)
    prior = log_odds(0.1, 1, 2)
    fitted = fit_mechanism(design, weight=weight, prior_log_odds=prior, hit_law=law)
    assert all(part.isfinite().all() for part in fitted)
    assert (fitted.noise_variance > 0).all()


# Rows that resemble each other


def test_a_tasks_rows_count_all_without_correlation_and_as_one_with_full():
    num_rows = floats(1, 2, 10, 1000)
    assert kish_weight(num_rows, 0.0).tolist() == [1, 1, 1, 1]
    torch.testing.assert_close(num_rows * kish_weight(num_rows, 1.0), torch.ones(4).double())
    assert kish_weight(num_rows, 0.5)[0] == 1
    # Many rows are worth 1 / rho.
    worth = 1e9 * kish_weight(floats(1e9), 0.02)
    assert worth.item() == pytest.approx(50, rel=1e-6)
