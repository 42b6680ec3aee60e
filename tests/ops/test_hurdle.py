"""Laws with an atom at zero: against integrals, autograd's optimum and data drawn from them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from pyro_metacadi.ops.generic_law import generic_log_prob
from pyro_metacadi.ops.hurdle import VARIANCE, Hurdle, fit_hurdle
from pyro_metacadi.ops.hurdle_hits import HurdleLaw, initial_hurdle_law
from pyro_metacadi.ops.rows import TaskRows
from pyro_metacadi.ops.task_values import TaskValues
from pyro_metacadi.ops.weighted import VARIANCE_ROWS, least_squares, logistic

SEEDS = st.integers(0, 2**32)


def floats(*values):
    return torch.tensor(values, dtype=torch.float64)


def rows_of(sizes):
    nothing = torch.zeros(sum(sizes), 0, dtype=torch.float64)
    return TaskRows(nothing, nothing, tuple(sizes))


def values_of(amounts, sizes, *, weight=None):
    """Values whose law has the unit 2, so that the standardised mean is 1.5 and zero is -1.5."""
    x = floats(*amounts) / 2 - 1.5
    weight = torch.ones(len(sizes), dtype=torch.float64) if weight is None else weight
    return TaskValues.of(
        x.view(1, -1), rows_of(sizes), weight=weight, scale=floats(2.0), offset=floats(3.0)
    )


def some_values(sizes=(4, 1, 3), *, seed=0, **options):
    rng = np.random.default_rng(seed)
    amounts = rng.uniform(0.5, 6, sum(sizes)) * rng.integers(0, 2, sum(sizes))
    return values_of(amounts, sizes, **options), torch.tensor(rng.normal(size=(1, sum(sizes))))


HURDLE = Hurdle(floats(0.3, 1.2).view(1, 2), floats(0.1, 0.8).view(1, 2), floats(0.4))
LAW = HurdleLaw(floats(-1.0, 0.7), floats(0.2, 0.6), torch.tensor(1.3).double(), floats(0.8, 0.2))


def test_what_is_present_is_above_zero():
    values = values_of([0, 1e-9, 0.01, 5], (4,))
    assert values.present.tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("judge", ["free", "hit", "generic", "mixture"])
def test_probabilities_of_zero_and_densities_of_the_rest_sum_to_one(judge):
    f = floats(0.7).view(1, 1)
    only = {"hit": floats(1, 1e-300), "generic": floats(1e-300, 1)}.get(judge, LAW.weight)
    law = HurdleLaw(LAW.presence, LAW.amount, LAW.scale, only)

    def density(amount, present):
        x = (floats(amount) / 2 - 1.5).view(1, 1)
        values = TaskValues.of(
            x, rows_of([1]), weight=floats(1), scale=floats(2.0), offset=floats(3.0)
        )
        object.__setattr__(values, "__class__", _Shown)
        _Shown.shown = present
        if judge == "free":
            found = HURDLE.row_log_prob(values, f)
        else:
            found = law.log_prob(values, HURDLE, f)
        return float(found.exp()) / 2  # of the amount, not of the standardised value

    zero = 2 * density(0.0, present=False)
    rest = quad(lambda amount: density(amount, present=True), -np.inf, np.inf, limit=200)[0]
    np.testing.assert_allclose(zero + rest, 1, rtol=1e-5)


class _Shown(TaskValues):
    """Values of which the test says whether they are zeros."""

    shown = True

    @property
    def present(self):
        return torch.full_like(self.x, self.shown, dtype=torch.bool)


@given(SEEDS)
def test_a_row_more_is_what_the_joint_density_gains(seed):
    values, f = some_values((4,), seed=seed)
    joint = LAW.component_log_prob(values, HURDLE, f)
    one_more = []
    for at in range(4):
        again = torch.cat([values.x, values.x[:, at : at + 1]], 1)
        longer = TaskValues.of(
            again, rows_of([5]), weight=floats(1), scale=floats(2.0), offset=floats(3.0)
        )
        with_it = LAW.component_log_prob(longer, HURDLE, torch.cat([f, f[:, at : at + 1]], 1))
        one_more.append(with_it.logsumexp(0) - joint.logsumexp(0))
    np.testing.assert_allclose(LAW.row_log_prob(values, HURDLE, f), torch.cat(one_more, 1))


@pytest.mark.parametrize("share", [(1, 1e-300), (1e-300, 1), (0.6, 0.4)])
def test_draws_of_one_more_row_have_its_density(share):
    amounts = (10.0, 12.0, 0.0, 11.0)  # so far from zero that no amount is cut there
    values = values_of(amounts, (4,))
    law = HurdleLaw(LAW.presence, floats(9.0, 0.1), torch.tensor(1.3).double(), floats(*share))
    one_more = law.one_more_row(values, HURDLE, torch.zeros(1, 4).double()).of(0)
    one_more = one_more._replace(log_share=floats(*share).log().view(2, 1))
    one = rows_of([1])
    f = torch.full((20_000, 1), 0.7).double()
    torch.manual_seed(0)
    drawn = one_more.sample(f, one)[:, 0]
    zero = torch.tensor(-1.5).double()
    silent = torch.full((1, 1), -1.5).double()
    chance = one_more.log_prob(silent, torch.zeros(1, 1).bool(), f[:1], one).exp()
    below = float((drawn <= zero).double().mean())
    assert below == pytest.approx(float(chance), abs=0.02)
    grid = torch.linspace(-1.5, 25, 5001).double().view(-1, 1)
    shown = torch.ones(len(grid), 1).bool()
    density = one_more.log_prob(grid, shown, f[: len(grid)], one)[:, 0].exp()
    cumulative = below + density.cumsum(0) * (grid[1] - grid[0])
    empirical = np.searchsorted(np.sort(drawn.numpy()), grid[:, 0].numpy(), side="right") / 20_000
    assert np.abs(empirical - cumulative.numpy()).max() < 0.03


def test_a_draw_of_a_hurdle_is_zero_as_often_as_its_odds_say():
    f = torch.full((1, 50_000), 0.7).double()
    rng = torch.Generator().manual_seed(0)
    uniform = torch.rand(1, 50_000, generator=rng).double()
    normal = torch.randn(1, 50_000, generator=rng).double()
    drawn = HURDLE.value(f, uniform=uniform, normal=normal, zero=floats(-8.0))
    present = drawn[drawn > -8]
    assert len(present) / 50_000 == pytest.approx(
        float(torch.sigmoid(HURDLE.log_odds(f[:, :1]))), abs=0.01
    )
    assert float(present.mean()) == pytest.approx(float(HURDLE.mean(f[:, :1])), abs=0.01)
    assert float(present.var()) == pytest.approx(0.4, abs=0.01)


def test_the_generic_law_sees_amounts_of_what_is_present_only():
    values, _ = some_values((4, 2))
    amount = generic_log_prob(values.x, values.rows, weight=values.weight, included=values.present)
    for task, part in enumerate(values.x[0].split([4, 2])):
        kept = part[values.present[0].split([4, 2])[task]]
        alone = generic_log_prob(kept[None], rows_of([len(kept)]), weight=floats(1))
        np.testing.assert_allclose(amount[0, task], alone[0, 0])


def test_all_patterns_of_presence_together_are_certain_under_the_generic_law():
    total = 0.0
    for pattern in itertools.product([0.0, 3.0], repeat=3):
        values = values_of(pattern, (3,))
        nothing = generic_log_prob(
            values.x, values.rows, weight=values.weight, included=values.present
        )
        generic = LAW.component_log_prob(values, HURDLE, torch.zeros(1, 3).double())[1]
        total += float((generic - nothing - LAW.weight[1].log()).exp())
    assert total == pytest.approx(1)


def test_a_hit_like_no_hit_says_nothing():
    values, f = some_values()
    same = HurdleLaw(floats(0, 1), floats(0, 1), HURDLE.variance[0].sqrt() * 2, floats(1, 1e-300))
    ratio = same.log_ratio(values, HURDLE, f)
    np.testing.assert_allclose(ratio, torch.zeros_like(ratio), atol=1e-12)


def test_rows_that_resemble_each_other_count_for_less():
    values, f = some_values()
    less, _ = some_values(weight=floats(0.5, 0.5, 0.5))
    whole = LAW.component_log_prob(values, HURDLE, f)[0] - LAW.weight[0].log()
    half = LAW.component_log_prob(less, HURDLE, f)[0] - LAW.weight[0].log()
    np.testing.assert_allclose(half, whole / 2)


@given(SEEDS)
def test_logistic_regression_is_at_the_optimum_of_its_posterior(seed):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.normal(0, 2, (2, 40)))
    y = torch.tensor(rng.integers(0, 2, (2, 40)).astype(float))
    weight = torch.tensor(rng.uniform(0, 2, (2, 40)))
    mean, deviation = (0.5, -1.0), (3.0, 0.7)
    found = logistic(y, x, weight, mean=mean, deviation=deviation).requires_grad_()
    odds = found[:, :1] + found[:, 1:] * x
    fit = (weight * torch.distributions.Bernoulli(logits=odds).log_prob(y)).sum()
    prior = torch.distributions.Normal(floats(*mean), floats(*deviation)).log_prob(found).sum()
    (gradient,) = torch.autograd.grad(fit + prior, found)
    assert gradient.abs().max() < 1e-5


def test_separable_data_and_no_data_have_finite_regressions():
    x = torch.linspace(-3, 3, 50).double().expand(2, 50)
    weight = torch.stack([torch.ones(50), torch.zeros(50)]).double()
    found = logistic((x > 0).double(), x, weight, mean=(0.0, 1.0), deviation=(10.0, 2.0))
    assert found.isfinite().all()
    assert found[0, 1] > 2
    np.testing.assert_allclose(found[1], [0, 1])
    line, variance = least_squares(x, x, weight, variance=0.3)
    np.testing.assert_allclose(line, [[0, 1], [0, 1]], atol=1e-12)
    np.testing.assert_allclose(
        variance, [VARIANCE_ROWS * 0.3 / (50 + VARIANCE_ROWS), 0.3], atol=1e-12
    )


def drawn(hit, *, seed=0, num_tasks=60, size=40):
    """Values of three variables under known laws, with the predictions and who was hit."""
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(3, num_tasks * size))
    truth = Hurdle(
        floats(0.5, 1.0, -0.5, 2.0, 0.0, 0.5).view(3, 2),
        floats(0.2, 0.9, -0.1, 0.7, 0.0, 1.0).view(3, 2),
        floats(0.1, 0.2, 0.3),
    )
    values = TaskValues.of(
        torch.tensor(f),
        rows_of([size] * num_tasks),
        weight=torch.ones(num_tasks).double(),
        scale=floats(1.0, 2.0, 0.5),
        offset=floats(5.0, 10.0, 3.0),
    )
    f = torch.tensor(f)
    odds, mean = truth.log_odds(f), truth.mean(f)
    sd = truth.variance.sqrt().unsqueeze(-1).expand_as(mean)
    by_row = values.rows.spread(hit)
    unit, offset = values.scale.unsqueeze(-1), values.offset.unsqueeze(-1)
    odds = torch.where(by_row > 0, -1.5 + 0.8 * odds, odds)
    hit_mean = (0.4 + 0.5 * (mean * unit + offset) - offset) / unit
    mean = torch.where(by_row > 0, hit_mean, mean)
    sd = torch.where(by_row > 0, 0.6 / unit, sd)
    present = torch.tensor(rng.random(odds.shape)) < torch.sigmoid(odds)
    x = torch.where(present, mean + sd * torch.tensor(rng.normal(size=mean.shape)), -offset / unit)
    whole = TaskValues.of(
        x, values.rows, weight=values.weight, scale=values.scale, offset=values.offset
    )
    return whole, f, truth


def test_laws_are_recovered_from_data_drawn_from_them():
    hit = (torch.arange(60).view(1, -1) % 5 == torch.arange(3).view(-1, 1)).double()
    values, f, truth = drawn(hit)
    hurdle = fit_hurdle(values, f, free=1 - hit)
    np.testing.assert_allclose(hurdle.presence, truth.presence, atol=0.25)
    np.testing.assert_allclose(hurdle.amount, truth.amount, atol=0.06)
    np.testing.assert_allclose(hurdle.variance, truth.variance, rtol=0.15)
    law = initial_hurdle_law().updated(values, hurdle, f, share=hit)
    np.testing.assert_allclose(law.presence, [-1.5, 0.8], atol=0.25)
    np.testing.assert_allclose(law.amount, [0.4, 0.5], atol=0.2)
    assert float(law.scale) == pytest.approx(0.6, rel=0.1)
    law = law.with_shares(torch.stack([hit, torch.zeros_like(hit)]))
    found = law.log_ratio(values, hurdle, f) > 0
    assert (found == hit.bool()).double().mean() > 0.97


def test_nobody_hit_leaves_the_priors():
    values, f, _ = drawn(torch.zeros(3, 60).double())
    hurdle = fit_hurdle(values, f, free=torch.zeros(3, 60).double())
    np.testing.assert_allclose(hurdle.presence, [[0, 1]] * 3, atol=1e-9)
    np.testing.assert_allclose(hurdle.amount, [[0, 1]] * 3, atol=1e-9)
    np.testing.assert_allclose(hurdle.variance, [VARIANCE] * 3)
    law = LAW.updated(values, hurdle, f, share=torch.zeros(3, 60).double())
    assert all(part.isfinite().all() for part in (law.presence, law.amount, law.scale))


def test_a_law_is_saved_as_seven_numbers():
    again = HurdleLaw.from_tensor(LAW.to_tensor())
    for name in ("presence", "amount", "scale", "weight"):
        assert torch.equal(getattr(again, name), getattr(LAW, name))
