"""Noise of every law: worlds have its exact density, rows follow it, and hits keep theirs."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.simulators import World, gp_anm, nn_anm
from pyro_metacadi.simulators.noise import (
    GaussianLaw,
    HeteroscedasticLaw,
    PostNonlinearLaw,
    StudentTLaw,
)

OTHERS = ("heteroscedastic", "post-nonlinear", "student_t")
EDGE = np.array([[0, 1], [0, 0]])  # X1 -> X2
SMALL = {"num_variables": 5, "num_tasks": 6, "num_samples": 20, "seed": 0}

other_noise = pytest.mark.parametrize("noise", OTHERS)
both = pytest.mark.parametrize("simulate", [gp_anm, nn_anm])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def free_rows(world, *, num_samples=4000):
    targets = torch.zeros(1, len(world.tasks.variables), dtype=torch.long)
    (rows,) = world.system.sample(targets, num_samples=[num_samples], generator=generator(7))
    return rows


def two_variables(simulate, **options):
    return simulate(num_variables=2, num_tasks=2, num_samples=5, seed=3, graph=EDGE, **options)


def integral(world, targets):
    """Of the density over (X1, X2); finer for networks, which scatter less and take less time."""
    sizes = (121, 801) if world.system.family is not None else (241, 2001)
    outer, inner = (np.sinh(np.linspace(-r, r, n)) for r, n in zip((6, 8), sizes, strict=True))
    points = np.stack(np.meshgrid(outer, inner, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(world.log_prob(points, targets, task=1)).reshape(sizes)
    return integrate.simpson(integrate.simpson(density, x=inner), x=outer)


@other_noise
@both
@pytest.mark.parametrize("targets", [[0, 0], [1, 0], [0, 1]])
def test_the_density_of_a_world_integrates_to_one(simulate, noise, targets):
    assert integral(two_variables(simulate, noise=noise), targets) == pytest.approx(1, abs=2e-3)


@other_noise
@pytest.mark.parametrize("kind", ["shift", "mechanism"])
def test_so_does_that_of_hits_that_keep_the_noise(noise, kind):
    world = two_variables(gp_anm, noise=noise, intervention=kind)
    assert integral(world, [0, 1]) == pytest.approx(1, abs=2e-3)


@other_noise
@both
def test_rows_follow_the_density(simulate, noise):
    world = two_variables(simulate, noise=noise)
    rows, system = free_rows(world), world.system
    loc, scale = system._conditional(
        1, rows, hit=torch.zeros(len(rows), dtype=torch.bool), task=torch.zeros(len(rows)).long()
    )
    restored, _ = system.laws[1].restore(rows[:, 1])
    residual = ((restored - loc) / scale).numpy()
    law = stats.norm
    if noise == "student_t":
        df = system.laws[1].degrees_of_freedom
        law = stats.t(df, scale=np.sqrt((df - 2) / df))
    assert stats.kstest(residual, law.cdf).pvalue > 0.01
    # The root's marginal, by integrating what log_prob says of it.
    grid = np.linspace(*np.quantile(rows[:, 0].numpy(), [0.001, 0.999]), 4001)
    density = np.exp(world.log_prob_terms(np.stack([grid, 0 * grid], 1), [0, 0])[:, 0])
    cumulative = 0.001 + integrate.cumulative_simpson(density, x=grid, initial=0)
    inside = rows[:, 0][(rows[:, 0] > grid[0]) & (rows[:, 0] < grid[-1])].numpy()
    share = np.interp(inside, grid, (cumulative - 0.001) / (cumulative[-1] - 0.001))
    assert stats.kstest(share, "uniform").pvalue > 0.01


@both
def test_gaussian_is_the_default_and_leaves_the_random_numbers_as_they_were(simulate):
    default, named = simulate(**SMALL), simulate(**SMALL, noise="gaussian")
    assert default.tasks == named.tasks
    assert all(type(law) is GaussianLaw for law in named.system.laws)


@other_noise
@both
def test_graph_functions_and_scales_are_those_of_gaussian_noise(simulate, noise):
    gaussian, other = simulate(**SMALL), simulate(**SMALL, noise=noise)
    assert (gaussian.adjacency == other.adjacency).all()
    assert (gaussian.intervention_targets == other.intervention_targets).all()
    assert torch.equal(gaussian.system.noise_scale, other.system.noise_scale)
    grid = torch.randn(9, 5, generator=generator(), dtype=torch.float64)
    for child, (first, second) in enumerate(
        zip(gaussian.system.functions, other.system.functions, strict=True)
    ):
        parents = grid[:, gaussian.system.adjacency[:, child].bool()]
        assert torch.equal(first(parents), second(parents))
    assert gaussian.tasks != other.tasks


@other_noise
@both
def test_the_average_scale_is_that_of_gaussian_noise(simulate, noise):
    world = simulate(num_variables=6, num_tasks=1, num_samples=1, seed=1, noise=noise)
    rows, system = free_rows(world, num_samples=20_000), world.system
    for child, law in enumerate(system.laws):
        parents = rows[:, system.adjacency[:, child].bool()]
        assert law.factor(parents).mean().item() == pytest.approx(1, rel=0.05)
        if noise == "post-nonlinear":
            y, _ = law.restore(rows[:, child])
            assert rows[:, child].mean().item() == pytest.approx(y.mean().item(), abs=0.1)
            assert rows[:, child].std().item() == pytest.approx(y.std().item(), rel=0.15)


@both
def test_heteroscedastic_scales_depend_on_the_parents_and_roots_have_none(simulate):
    world = simulate(num_variables=6, num_tasks=1, num_samples=1, seed=1, noise="heteroscedastic")
    rows = free_rows(world)
    for child, law in enumerate(world.system.laws):
        parents = rows[:, world.system.adjacency[:, child].bool()]
        assert isinstance(law, HeteroscedasticLaw) == bool(parents.shape[1])
        assert bool(law.factor(parents).std() > 1e-3) == bool(parents.shape[1])


@other_noise
def test_hard_targets_keep_their_normal_law_and_do_its_constant(noise):
    options = {"noise": noise, "intervention_mean": 2.0, "intervention_scale": 0.5}
    targets = torch.tensor([[0, 1]])
    draw = {"num_samples": [4000], "generator": generator()}
    (rows,) = two_variables(gp_anm, **options).system.sample(targets, **draw)
    assert stats.kstest(rows[:, 1].numpy(), "norm", args=(2.0, 0.5)).pvalue > 0.01
    held = two_variables(gp_anm, **options, intervention="do")
    (rows,) = held.system.sample(targets, **draw)
    assert set(rows[:, 1].tolist()) == {2.0}
    off = np.array([[0.0, 2.0], [0.0, 2.1]])
    assert np.isfinite(held.log_prob(off, [0, 1])).tolist() == [True, False]


def test_a_shift_is_added_before_the_distortion():
    options = {"noise": "post-nonlinear", "intervention": "shift", "intervention_shift": 1.5}
    system = two_variables(gp_anm, **options).system
    free, hit = (
        system.sample(torch.tensor([[0, value]]), num_samples=[50], generator=generator())[0]
        for value in (0, 1)
    )
    before, after = (system.laws[1].restore(rows[:, 1])[0] for rows in (free, hit))
    assert torch.allclose(after - before, torch.full((50,), 1.5, dtype=torch.float64))


@pytest.mark.parametrize("tail", [0.5, 0.8, 1.0, 1.9])
@pytest.mark.parametrize("skew", [-0.8, 0.0, 0.6])
def test_distortions_invert_with_the_exact_slope(tail, skew):
    y = torch.cat([torch.linspace(-8, 8, 201), torch.tensor([-1e3, 1e3])]).double()
    law = PostNonlinearLaw.fitted(2 + 0.7 * y[:-2], tail=tail, skew=skew)
    x = law.distort(y.requires_grad_())
    (slope,) = torch.autograd.grad(x.sum(), y)
    restored, log_slope = law.restore(x)
    assert (x.diff()[:-2] > 0).all()
    assert torch.allclose(restored, y, rtol=1e-9, atol=1e-9)
    assert torch.allclose(log_slope, -slope.log(), rtol=1e-8, atol=1e-8)


def test_students_t_has_unit_variance():
    law = StudentTLaw(5)
    values = law.draw(torch.randn(200_000, generator=generator()).double(), generator=generator(1))
    assert values.var().item() == pytest.approx(1, rel=0.05)
    grid = torch.linspace(-400, 400, 400_001).double()
    density = law.log_prob(grid).exp()
    assert integrate.simpson(density.numpy(), x=grid.numpy()) == pytest.approx(1, abs=1e-6)
    second = integrate.simpson((density * grid**2).numpy(), x=grid.numpy())
    assert second == pytest.approx(1, abs=1e-3)


@other_noise
@both
def test_the_true_targets_are_preferred(simulate, noise):
    world = simulate(
        num_variables=5, num_tasks=8, num_samples=200, seed=2, noise=noise, targets_per_task=1
    )
    truth = world.intervention_targets.argmax(1)
    found = [
        np.argmax([world.log_prob(rows, one).sum() for one in np.eye(5, dtype=int)])
        for rows in world.tasks.arrays
    ]
    assert (truth == found).mean() >= 7 / 8


@other_noise
@both
def test_a_saved_world_has_the_same_density_and_draws_the_same_tasks(simulate, noise, tmp_path):
    world = simulate(**SMALL, noise=noise)
    world.save(tmp_path / "world")
    loaded = World.load(tmp_path / "world")
    rows, targets = world.tasks.arrays[0], world.intervention_targets[0]
    assert loaded.origin.arguments["noise"] == noise
    assert (loaded.log_prob(rows, targets) == world.log_prob(rows, targets)).all()
    first, second = (one.sample_tasks(2, 3, seed=5).tasks for one in (world, loaded))
    assert first == second


@both
@pytest.mark.parametrize("noise", ["laplace", "post_nonlinear", None, 3, ["gaussian"]])
def test_an_unknown_noise_is_refused(simulate, noise):
    with pytest.raises(ConfigError, match=r"noise: expected one of 'gaussian', 'heterosc.* got"):
        simulate(**SMALL, noise=noise)
