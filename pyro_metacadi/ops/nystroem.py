r"""Features of parent sets whose inner products approximate a Gaussian process's kernel.

A mechanism f_i of the parents is a Gaussian process with the kernel of `pyro_metacadi.ops.kernels`
over all parents jointly, as Bayesian linear regression on Nyström features: :math:`\phi(x) =
L^{-1} k(x)` with k the kernel against some of the data's rows (landmarks) and L the Cholesky factor
of their kernel matrix. They lie where the data lie, and 100 of them explain as much as 300-400
random Fourier features (docs/accuracy.md).

Source: Williams and Seeger 2001; Rahimi and Recht 2007 for the alternative.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from pyro_metacadi.ops.kernels import Kernel

__all__ = ["INTERCEPT", "mechanism_features", "num_landmarks", "whitening"]

JITTER = 1e-4
"""Added to the landmarks' kernel matrix, whose eigenvalues vanish for smooth functions."""

INTERCEPT = 3.0
"""Prior standard deviation of a mechanism's constant, in standard deviations of its variable."""

LANDMARKS = (24, 24, 48, 72, 96)
"""For functions of 0, 1, 2, 3 and more inputs, at resolution 1."""


def num_landmarks(num_inputs: int, *, resolution: float = 1.0) -> int:
    """How many landmarks a function of so many inputs needs: few inputs, few features."""
    return round(resolution * LANDMARKS[min(num_inputs, len(LANDMARKS) - 1)])


def whitening(
    landmarks: Float[Tensor, "landmark input"],
    inputs: Bool[Tensor, "set input"],
    kernel: Kernel,
) -> Float[Tensor, "set landmark landmark"]:
    """What makes features of a kernel with the landmarks, in float64.

    Sets without inputs get zeros: a function of nothing is its constant.
    """
    points = landmarks.double()
    gram = kernel.correlation(points, points, inputs)
    gram.diagonal(dim1=-2, dim2=-1).add_(JITTER)
    factor = torch.linalg.cholesky_ex(gram).L
    identity = torch.eye(len(points), dtype=factor.dtype, device=factor.device)
    inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    size = math.sqrt(kernel.amplitude) * inputs.any(-1).to(points.dtype)
    return inverse.mT * size.view(-1, 1, 1)


def mechanism_features(
    x: Float[Tensor, "row input"],
    landmarks: Float[Tensor, "landmark input"],
    inputs: Bool[Tensor, "set input"],
    kernel: Kernel,
) -> Float[Tensor, "set row feature"]:
    """Nyström features of every set, then a constant: weights have a standard normal prior.

    Args:
        x: Rows, standardised.
        landmarks: Rows that span the functions.
        inputs: Which columns each set reads. Sets without any get zeros and the constant.
        kernel: Of the functions.

    Returns:
        One feature per landmark, and the constant.
    """
    whiten = functional.pad(whitening(landmarks, inputs, kernel), (0, 1)).to(x.dtype)
    features = kernel.correlation(x, landmarks, inputs) @ whiten
    features[..., -1] = INTERCEPT  # in place: appended, it would cost a copy of all features
    return features
