r"""Features of parent sets whose inner products approximate a Gaussian process's kernel.

A mechanism f_i of the parents is a Gaussian process with the kernel :math:`\alpha
\exp(-|x_P - x'_P|^2 / 2 \ell^2)` over all parents P jointly, as Bayesian linear regression on
Nyström features: :math:`\phi(x) = L^{-1} k(x)` with k the kernel against some of the data's rows
(landmarks) and L the Cholesky factor of their kernel matrix. They lie where the data lie, and 100
of them explain as much as 300-400 random Fourier features (docs/accuracy.md).

Source: Williams and Seeger 2001; Rahimi and Recht 2007 for the alternative.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["INTERCEPT", "mechanism_features", "num_landmarks", "rbf_kernel", "whitening"]

JITTER = 1e-4
"""Added to the landmarks' kernel matrix, whose eigenvalues vanish for smooth functions."""

INTERCEPT = 3.0
"""Prior standard deviation of a mechanism's constant, in standard deviations of its variable."""

LANDMARKS = (24, 24, 48, 72, 96)
"""For functions of 0, 1, 2, 3 and more inputs, at resolution 1."""


def num_landmarks(num_inputs: int, *, resolution: float = 1.0) -> int:
    """How many landmarks a function of so many inputs needs: few inputs, few features."""
    return round(resolution * LANDMARKS[min(num_inputs, len(LANDMARKS) - 1)])


def rbf_kernel(
    x: Float[Tensor, "row input"],
    landmarks: Float[Tensor, "landmark input"],
    inputs: Bool[Tensor, "set input"],
    *,
    length_scale: float,
) -> Float[Tensor, "set row landmark"]:
    """Gaussian kernel between rows and landmarks over each set's inputs only.

    The mask is folded into the landmarks, so that no ``[set, row, input]`` tensor exists.

    Args:
        x: Rows.
        landmarks: Rows to compare with.
        inputs: Which columns each set reads; none gives a kernel of 1.
        length_scale: In units of the columns.
    """
    mask = inputs.to(x.dtype)
    scale = -0.5 / length_scale**2
    rows, points = x.square() @ (scale * mask.mT), landmarks.square() @ (scale * mask.mT)
    exponent = torch.baddbmm(
        rows.mT.unsqueeze(-1) + points.mT.unsqueeze(-2),
        x.expand(len(mask), *x.shape),
        (mask.unsqueeze(1) * landmarks).mT,
        alpha=-2 * scale,
    )
    return exponent.clamp_(max=0).exp_()


def whitening(
    landmarks: Float[Tensor, "landmark input"],
    inputs: Bool[Tensor, "set input"],
    *,
    length_scale: float,
    amplitude: float,
) -> Float[Tensor, "set landmark landmark"]:
    """What makes features of a kernel with the landmarks, in float64.

    Sets without inputs get zeros: a function of nothing is its constant.
    """
    points = landmarks.double()
    gram = rbf_kernel(points, points, inputs, length_scale=length_scale)
    gram.diagonal(dim1=-2, dim2=-1).add_(JITTER)
    factor = torch.linalg.cholesky_ex(gram).L
    identity = torch.eye(len(points), dtype=factor.dtype, device=factor.device)
    inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    return inverse.mT * (math.sqrt(amplitude) * inputs.any(-1).to(points.dtype)).view(-1, 1, 1)


def mechanism_features(
    x: Float[Tensor, "row input"],
    landmarks: Float[Tensor, "landmark input"],
    inputs: Bool[Tensor, "set input"],
    *,
    length_scale: float,
    amplitude: float,
) -> Float[Tensor, "set row feature"]:
    """Nyström features of every set, then a constant: weights have a standard normal prior.

    Args:
        x: Rows, standardised.
        landmarks: Rows that span the functions.
        inputs: Which columns each set reads. Sets without any get zeros and the constant.
        length_scale: Of the kernel, in standard deviations.
        amplitude: α, the prior variance of a function value.

    Returns:
        One feature per landmark, and the constant.
    """
    whiten = whitening(landmarks, inputs, length_scale=length_scale, amplitude=amplitude)
    features = rbf_kernel(x, landmarks, inputs, length_scale=length_scale) @ whiten.to(x.dtype)
    constant = features.new_full((*features.shape[:-1], 1), INTERCEPT)
    return torch.cat([features, constant], -1)
