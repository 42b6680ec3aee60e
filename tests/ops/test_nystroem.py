"""Features of parent sets: inner products are the kernel at the landmarks, Nyström's elsewhere."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.ops.kernels import Kernel
from pyro_metacadi.ops.nystroem import (
    INTERCEPT,
    JITTER,
    mechanism_features,
    num_landmarks,
)

SEEDS = st.integers(0, 2**32)
KERNEL = Kernel(length_scale=1.5, amplitude=2.5)


def points(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def sets(*columns, width=4):
    mask = torch.zeros(len(columns), width, dtype=torch.bool)
    for line, chosen in zip(mask, columns, strict=True):
        line[list(chosen)] = True
    return mask


MASKS = sets((0,), (1, 3), (), (0, 1, 2, 3))


def correlation(x, y, mask):
    return KERNEL.correlation(x, y, mask[None])[0]


def test_inner_products_at_the_landmarks_are_the_kernel_up_to_the_jitter():
    landmarks = points(20, 4)
    features = mechanism_features(landmarks, landmarks, MASKS, KERNEL)[..., :-1]
    for phi, mask in zip(features, MASKS, strict=True):
        if mask.any():
            kernel = correlation(landmarks, landmarks, mask)
            # K - K (K + jitter)^-1 K has no eigenvalue above the jitter.
            difference = 2.5 * kernel - phi @ phi.T
            assert difference.abs().max() <= 2.5 * JITTER * (1 + 1e-6)


def test_inner_products_elsewhere_are_those_of_the_nystroem_formula():
    x, landmarks = points(30, 4), points(12, 4, seed=1)
    features = mechanism_features(x, landmarks, MASKS, KERNEL)
    for phi, mask in zip(features, MASKS, strict=True):
        cross = correlation(x, landmarks, mask)
        gram = correlation(landmarks, landmarks, mask)
        system = gram + JITTER * torch.eye(12, dtype=torch.float64)
        expected = 2.5 * cross @ torch.linalg.solve(system, cross.T) * bool(mask.any())
        torch.testing.assert_close(phi @ phi.T, expected + INTERCEPT**2, rtol=1e-7, atol=1e-7)


def test_a_prior_function_value_varies_by_the_amplitude_and_the_constant():
    x = points(200, 4)
    variance = mechanism_features(x, x[:150], MASKS, KERNEL).square().sum(-1)
    assert (variance <= 2.5 + INTERCEPT**2 + 1e-9).all()
    assert (variance[0] > 2.5 + INTERCEPT**2 - 0.1).all()


def test_a_set_without_inputs_has_its_constant_only():
    features = mechanism_features(points(6, 4), points(5, 4), sets(()), KERNEL)
    assert (features[..., :-1] == 0).all()
    assert (features[..., -1] == INTERCEPT).all()


def test_sets_in_one_batch_are_the_sets_one_by_one():
    x, landmarks = points(9, 4), points(7, 4, seed=1)
    together = mechanism_features(x, landmarks, MASKS, KERNEL)
    single = [mechanism_features(x, landmarks, mask[None], KERNEL) for mask in MASKS]
    torch.testing.assert_close(together, torch.cat(single), rtol=1e-9, atol=1e-9)


@given(st.permutations(range(4)))
def test_the_order_of_columns_and_values_of_unread_ones_do_not_matter(order):
    x, landmarks = points(9, 4), points(7, 4, seed=1)
    expected = mechanism_features(x, landmarks, MASKS, KERNEL)
    got = mechanism_features(x[:, order], landmarks[:, order], MASKS[:, order], KERNEL)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)
    other = x.clone()
    other[:, 2] = 7.0
    blind = sets((0, 1, 3))
    torch.testing.assert_close(
        mechanism_features(other, landmarks, blind, KERNEL),
        mechanism_features(x, landmarks, blind, KERNEL),
    )


@pytest.mark.parametrize("value", [0.0, 3.0, 40.0])
def test_equal_landmarks_are_no_trouble(value):
    same = torch.full((24, 4), value)
    features = mechanism_features(same, same, MASKS, KERNEL)
    assert features.isfinite().all()
    norm = features[0, :, :-1].square().sum(-1)
    torch.testing.assert_close(norm, torch.full_like(norm, 2.5), rtol=1e-2, atol=0)


@given(SEEDS)
def test_single_precision_is_near_double(seed):
    x = points(60, 4, seed=seed)
    double = mechanism_features(x, x[:48], MASKS, KERNEL)
    single = mechanism_features(x.float(), x[:48].float(), MASKS, KERNEL)
    assert single.dtype == torch.float32
    gram, expected = single @ single.mT, double @ double.mT
    torch.testing.assert_close(gram.double(), expected, rtol=0, atol=1e-4)


def test_more_inputs_get_more_landmarks():
    numbers = [num_landmarks(k) for k in range(8)]
    assert numbers == sorted(numbers)
    assert numbers[4:] == [96] * 4


def test_few_landmarks_are_as_many_as_there_are():
    features = mechanism_features(points(4, 4), points(1, 4), MASKS, KERNEL)
    assert features.shape == (4, 4, 2)
    assert math.isfinite(float(features.sum()))
