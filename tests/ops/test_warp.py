"""Increasing functions are increasing, invert, and know their slope."""

import pytest
import torch

from pyro_metacadi.ops.warp import Warp


def random_warp(*, size=1.0, dtype=torch.float64, seed=0):
    """Of three variables and four steps."""
    generator = torch.Generator().manual_seed(seed)
    height, steepness, centre = torch.randn(3, 3, 4, generator=generator, dtype=dtype)
    return Warp(size * height.exp(), steepness.exp(), centre)


def test_minus_one_and_one_stay_where_they_are():
    ends = torch.tensor([[-1.0], [1.0]], dtype=torch.float64).expand(2, 3)
    torch.testing.assert_close(random_warp()(ends), ends)


def test_without_steps_it_is_the_identity():
    x = torch.linspace(-9, 9, 30, dtype=torch.float64).reshape(10, 3)
    warp = random_warp(size=0.0)
    torch.testing.assert_close(warp(x), x)
    torch.testing.assert_close(warp.log_slope(x), torch.zeros_like(x))


@pytest.mark.parametrize("seed", range(5))
def test_it_increases_and_its_slope_is_the_derivative(seed):
    x = torch.linspace(-5, 5, 501, dtype=torch.float64).unsqueeze(-1).expand(501, 3).clone()
    warp = random_warp(seed=seed)
    value = warp(x.requires_grad_())
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert (value.diff(dim=0) > 0).all()
    torch.testing.assert_close(warp.log_slope(x), slope.log())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_solving_inverts_to_float_precision(seed, dtype, error):
    x = torch.cat([torch.linspace(-6, 6, 200), torch.tensor([-1e4, 1e4])]).to(dtype)
    x, warp = x.unsqueeze(-1).expand(202, 3), random_warp(dtype=dtype, seed=seed)
    torch.testing.assert_close(warp.solve(warp(x)), x, rtol=error, atol=10 * error)


def test_values_far_away_are_finite():
    x = torch.tensor([[-1e6, 1e6, 3e5]])
    warp = random_warp(dtype=torch.float32)
    assert warp(x).isfinite().all()
    assert warp.log_slope(x).isfinite().all()


@pytest.mark.parametrize("method", ["__call__", "log_slope", "solve"])
def test_gradients_are_those_of_finite_differences(method):
    first = random_warp(seed=3)
    x = torch.tensor([[0.3, -1.2, 0.9], [2.0, -0.1, 0.0]], dtype=torch.float64)
    inputs = [x, first.height, first.steepness, first.centre]

    def apply(x, height, steepness, centre):
        return getattr(Warp(height, steepness, centre), method)(x)

    assert torch.autograd.gradcheck(apply, [value.clone().requires_grad_() for value in inputs])
