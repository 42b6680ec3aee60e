"""Kernels of mechanisms: products over each set's inputs, of one or of two length-scales."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.ops.kernels import LONGER, Kernel

SEEDS = st.integers(0, 2**32)
KERNELS = [Kernel(0.7, 2.0), Kernel(0.7, 2.0, long_share=0.3), Kernel(0.7, 2.0, long_share=1.0)]
MASKS = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)


def points(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def gaussian(gap, length_scale):
    return torch.exp(-gap.square() / (2 * length_scale**2))


def plain(kernel, x, y, mask):
    """The formula, one pair of rows and one input at a time."""
    product = torch.ones(len(x), len(y), dtype=x.dtype)
    for j in torch.nonzero(mask).flatten():
        gap = x[:, None, j] - y[None, :, j]
        short, long = (gaussian(gap, kernel.length_scale * times) for times in (1, LONGER))
        product = product * ((1 - kernel.long_share) * short + kernel.long_share * long)
    return product


@pytest.mark.parametrize("kernel", KERNELS)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1), SEEDS)
def test_the_kernel_is_the_product_over_each_sets_columns(kernel, masks, seed):
    x, landmarks, inputs = points(5, 4, seed=seed), points(3, 4, seed=seed + 1), torch.tensor(masks)
    found = kernel.correlation(x, landmarks, inputs)
    assert found.shape == (len(masks), 5, 3)
    for got, mask in zip(found, inputs, strict=True):
        torch.testing.assert_close(got, plain(kernel, x, landmarks, mask))


@pytest.mark.parametrize("kernel", KERNELS)
def test_rounding_makes_no_kernel_larger_than_one(kernel):
    x = 1e4 + points(50, 4, dtype=torch.float32)
    found = kernel.correlation(x, x, MASKS)
    assert ((found >= 0) & (found <= 1 + 1e-6)).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_positive_definite(kernel):
    x = points(30, 4)
    lowest = torch.linalg.eigvalsh(kernel.correlation(x, x, MASKS)).amin(-1)
    assert (lowest > -1e-9).all()


def test_the_longer_length_scale_alone_is_a_kernel_of_that_length():
    x = points(9, 4)
    long = Kernel(0.7, 2.0, long_share=1.0).correlation(x, x, MASKS)
    torch.testing.assert_close(long, Kernel(0.7 * LONGER, 2.0).correlation(x, x, MASKS))


def test_kernels_of_large_or_equal_values_are_finite():
    for scale in (0.0, 1e6):
        x = scale * points(9, 4, dtype=torch.float32)
        for kernel in KERNELS:
            assert kernel.correlation(x, x, MASKS).isfinite().all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_has_the_precision_of_its_rows(kernel):
    x, landmarks = points(5, 4), points(3, 4, dtype=torch.float32)
    found = kernel.correlation(x, landmarks, MASKS)
    assert found.dtype == torch.float64
    again = kernel.with_landmarks(landmarks.double(), MASKS)
    for rows in (x, x.flip(0)):
        torch.testing.assert_close(again(rows), kernel.correlation(rows, landmarks, MASKS))
    torch.testing.assert_close(again(x), found)
