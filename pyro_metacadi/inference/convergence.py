"""Whether Markov chains have found the same distribution."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtri
from scipy.stats import rankdata

from pyro_metacadi.errors import ConfigError

__all__ = ["AGREEMENT", "chains_agree", "split_rhat"]

AGREEMENT = 1.1
"""R-hat below which chains are taken to have found the same distribution."""

ROUNDING = 1e-9
"""Values whose range is so much smaller than they are differ by rounding only."""

FEWEST_DRAWS = 4
"""Of a chain, so that each half has a variance."""


def chains_agree(draws: Float[np.ndarray, "chain draw"]) -> bool | None:
    """Whether Markov chains agree about a quantity: its `split_rhat` is below 1.1.

    Args:
        draws: The quantity, such as the log score of the graph, in every draw of every chain.

    Returns:
        None if that cannot be told: from one chain, or from fewer than four draws. Chains that
        never move agree if they are at the same place.
    """
    if len(draws) < 2 or draws.shape[1] < FEWEST_DRAWS:
        return None
    if not np.isfinite(draws).all():
        return False
    if np.ptp(draws) <= ROUNDING * np.abs(draws).max():
        return True
    return split_rhat(draws) < AGREEMENT


def split_rhat(
    draws: Float[np.ndarray, "chain draw"] | Int[np.ndarray, "..."] | Bool[np.ndarray, "..."],
) -> float:
    """Rank-normalised split R-hat: 1 if all halves of all chains look alike, else more.

    The larger of two: of the ranks of the values (location), and of the ranks of their distances to
    the median (scale).

    Returns:
        NaN if all values are equal.

    Raises:
        ConfigError: There are fewer than four draws, or values that are not finite.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner 2021, Eq. 14 and Section 4.2.
    """
    values = np.asarray(draws, dtype=float)
    if values.shape[1] < FEWEST_DRAWS or not np.isfinite(values).all():
        raise ConfigError(
            f"draws: expected at least {FEWEST_DRAWS} finite values of each chain, got shape "
            f"{list(values.shape)}{'' if np.isfinite(values).all() else ' with NaN or infinity'}. "
            f"Draw more."
        )
    halves = _split(values)
    distance = np.abs(halves - np.median(halves))
    return max(_rhat(_normal_scores(halves)), _rhat(_normal_scores(distance)))


def _split(values: Float[np.ndarray, "chain draw"]) -> Float[np.ndarray, "half draw"]:
    """The first and the last half of every chain; the middle draw of an odd number is left out."""
    size = values.shape[1] // 2
    return np.concatenate([values[:, :size], values[:, -size:]])


def _normal_scores(values: Float[np.ndarray, "half draw"]) -> Float[np.ndarray, "half draw"]:
    """Values replaced by the normal quantiles of their ranks (Blom's offsets)."""
    ranks = rankdata(values, method="average", axis=None).reshape(values.shape)
    return ndtri((ranks - 3 / 8) / (values.size + 1 / 4))


def _rhat(values: Float[np.ndarray, "half draw"]) -> float:
    size = values.shape[1]
    between = size * values.mean(axis=1).var(ddof=1)
    within = values.var(axis=1, ddof=1).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt((between / within + size - 1) / size))
