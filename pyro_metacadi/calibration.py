"""Whether probabilities keep their word: of what is said to be 70 % probable, 70 % should be true.

Calibration is no skill: whoever gives every entry the base rate is calibrated and knows nothing. It
belongs beside the curves of `pyro_metacadi.metrics`, through which these functions are used.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from pyro_metacadi._arrays import Labels, axis_labels, in_order
from pyro_metacadi._truth import EDGE, HIT
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

if TYPE_CHECKING:
    import pandas

__all__ = ["calibration", "reliability"]

Axes: TypeAlias = list[tuple[str, Labels]]  # what an axis is, and the names along it

NORMAL_975 = 1.959963984540054  # the standard normal's quantile: intervals hold 95 %
ROUNDING = 1e-6  # how far averages in single precision may step out of [0, 1]


def calibration(
    probabilities: ArrayLike, truth: ArrayLike, *, num_bins: int = 10
) -> dict[str, float]:
    """Compare probabilities with what turned out to be true.

    Args:
        probabilities: P(entry is 1), any shape. What leaves 0 to 1 by at most 1e-6 is rounding, and
            clipped. The diagonal of a DataArray over parent and child is not read; drop that of a
            plain matrix of edges yourself: ``off = ~np.eye(d, dtype=bool)``, ``probs[off]``.
        truth: 0/1, the same shape. Rows and columns are matched by name where both sides are
            labelled, as `pyro_metacadi.metrics` says.
        num_bins: Number of bins of equal width, for ``ece`` only.

    Returns:
        * ``ece``: expected calibration error, 0 (best) to 1: the gap between mean probability and
          share of ones in a bin ``[low, high)`` (the last includes 1), averaged over the entries.
          Chance alone makes it positive; it falls as entries get more.
        * ``brier``: mean squared error of the probabilities, 0 (best) to 1.
        * ``spiegelhalter_z``: how many standard deviations the Brier score lies above what the
          probabilities themselves promise, if entries are independent: N(0, 1) when calibrated,
          large and positive when too sure, negative when not sure enough. 0 if the Brier score is
          what it must be (0/0: every probability is 0, 1/2 or 1, and no certainty is wrong);
          infinite if it cannot be.
        * ``log_loss``: mean negative log probability, in nats; infinite if a certainty is wrong.
        * ``mean_probability`` and ``base_rate``, the share of ones: calibration in the large.

    Raises:
        DataError: No entries, other shapes or names, probabilities outside 0 to 1, or truth that is
            not 0/1.
        ConfigError: `num_bins` is not a positive whole number.

    Source:
        ECE: Naeini et al., AAAI 2015, whose binary form this is, with the equal-width bins of
        Guo et al., ICML 2017. Brier, Monthly Weather Review 78 (1950). z: Spiegelhalter,
        Statistics in Medicine 5 (1986).
    """
    prob, true = _matched(probabilities, truth)
    count, prob_sum, true_sum = _bin_sums(prob, true, num_bins=num_bins)
    with np.errstate(divide="ignore"):
        log_loss = -np.log(np.where(true == 1, prob, 1 - prob)).mean() + 0.0  # no minus zero
    scores = {
        "ece": np.abs(prob_sum - true_sum).sum() / count.sum(),
        "brier": ((true - prob) ** 2).mean(),
        "spiegelhalter_z": _spiegelhalter_z(prob, true),
        "log_loss": log_loss,
        "mean_probability": prob.mean(),
        "base_rate": true.mean(),
    }
    return {name: float(score) for name, score in scores.items()}


def reliability(
    probabilities: ArrayLike, truth: ArrayLike, *, num_bins: int = 10
) -> "pandas.DataFrame":
    """Tabulate, bin by bin, the stated probability and the observed share of ones.

    Args:
        probabilities: As for `calibration`.
        truth: As for `calibration`.
        num_bins: Number of bins of equal width.

    Returns:
        One row per bin, of probabilities in ``[low, high)`` (the last includes 1): ``low``,
        ``high``, ``count``, ``mean_probability``, ``observed_share``, and ``interval_low`` and
        ``interval_high``, Wilson's 95 % interval of the share. The last four of an empty bin are
        NaN. The interval takes entries for independent; those of one graph or one task are not
        quite, and the interval is then too short.

    Raises:
        DataError: As for `calibration`.
        ConfigError: `num_bins` is not a positive whole number.

    Source:
        Wilson, Journal of the American Statistical Association 22 (1927).
    """
    import pandas as pd

    prob, true = _matched(probabilities, truth)
    count, prob_sum, true_sum = _bin_sums(prob, true, num_bins=num_bins)
    filled = np.where(count > 0, count, np.nan)
    low, high = _wilson_interval(true_sum, filled)
    edges = _bin_edges(len(count))
    columns = {
        "low": edges[:-1],
        "high": edges[1:],
        "count": count,
        "mean_probability": prob_sum / filled,
        "observed_share": true_sum / filled,
        "interval_low": low,
        "interval_high": high,
    }
    return pd.DataFrame(columns)


def _matched(probabilities: Any, truth: Any) -> tuple[Array, Array]:
    """Return the entries to be scored, flat: their probabilities, and 0 or 1 as floats."""
    # Posterior.edge_probs and target_probs carry their names.
    what = str(getattr(probabilities, "name", None) or "probabilities")
    dims = _dims(probabilities, what) or _dims(truth, "truth") or ("row", "column")
    labels = axis_labels(probabilities, dims=dims)
    unordered = None, None
    prob = in_order(probabilities, what=what, dims=dims, labels=unordered, error=DataError)
    true = in_order(truth, what="truth", dims=dims, labels=labels, error=DataError)
    if prob.shape != true.shape:
        raise DataError(
            f"truth: expected shape {list(prob.shape)} as {what}, got {list(true.shape)}. "
            "Pass one 0 or 1 per probability."
        )
    axes, prob, true = list(zip(dims, labels, strict=True)), prob.astype(float), true.astype(float)
    read = _entries_read(prob.shape, axes)
    if not read.any():
        raise DataError(f"{what}: expected at least one entry to score, got none. Pass some.")
    inside = (prob >= -ROUNDING) & (prob <= 1 + ROUNDING)
    fix = "Pass probabilities, not scores or logits."
    _refuse(prob, read & ~inside, axes, rule=f"{what}: expected numbers from 0 to 1", fix=fix)
    neither = (true != 0) & (true != 1)
    _refuse(true, read & neither, axes, rule="truth: expected 0 or 1", fix="Threshold it first.")
    return prob[read].clip(0, 1), true[read]


def _dims(matrix: Any, what: str) -> tuple[str, str] | None:
    """Return what rows and columns of a DataArray are; None for what does not say."""
    if not (hasattr(matrix, "dims") and hasattr(matrix, "coords")):
        return None
    dims = [str(dim) for dim in matrix.dims]
    if len(dims) != 2:
        raise DataError(
            f"{what}: expected a DataArray over two axes, got {', '.join(dims) or 'none'}. "
            "Pass .values, in the same order as the other side's."
        )
    return next(
        (known for known in (EDGE, HIT) if sorted(known) == sorted(dims)), (dims[0], dims[1])
    )


def _entries_read(shape: tuple[int, ...], axes: Axes) -> Array:
    """Mark all entries, but of a graph those that join two variables."""
    (row, parents), (_, children) = axes
    if row != EDGE[0]:
        return np.ones(shape, dtype=bool)
    if parents is None or children is None:
        return np.not_equal.outer(np.arange(shape[0]), np.arange(shape[1]))
    return np.array([[a != b for b in children] for a in parents], dtype=bool).reshape(shape)


def _refuse(values: Array, wrong: Array, axes: Axes, *, rule: str, fix: str) -> None:
    """Raise on the first entry that is `wrong`, naming the place."""
    if not wrong.any():
        return
    at = tuple(np.argwhere(wrong)[0].tolist())
    place = str(list(at))
    if any(names for _, names in axes):
        cells = zip(axes, at, strict=True)
        place = ", ".join(f"{dim} {names[k] if names else k!r}" for (dim, names), k in cells)
    raise DataError(f"{rule}, got {values[at]:g} at {place}. {fix}")


def _bin_edges(num_bins: int) -> Array:
    return np.arange(num_bins + 1) / num_bins


def _bin_sums(prob: Array, true: Array, *, num_bins: int) -> tuple[Array, Array, Array]:
    """Return per bin the number of entries, the sum of their probabilities, and of their ones."""
    if type(num_bins) is not int or num_bins < 1:
        from pyro_metacadi.checks import check_count  # imports torch, which scoring does not need

        num_bins = check_count("num_bins", num_bins)
    # By comparison with the edges, for 0.29 * 100 is less than 29.
    which = np.searchsorted(_bin_edges(num_bins)[1:-1], prob, side="right")
    count, prob_sum, true_sum = (
        np.bincount(which, weights=weights, minlength=num_bins) for weights in (None, prob, true)
    )
    return count, prob_sum, true_sum


def _spiegelhalter_z(prob: Array, true: Array) -> float:
    excess = ((true - prob) * (1 - 2 * prob)).sum()
    variance = ((1 - 2 * prob) ** 2 * prob * (1 - prob)).sum()
    if variance > 0:
        return excess / np.sqrt(variance)
    return np.inf if excess > 0 else 0.0


def _wilson_interval(ones: Array, count: Array) -> tuple[Array, Array]:
    """Return the interval for a share of `ones` among `count`, NaN where that is NaN."""
    squared = NORMAL_975**2
    centre = (ones + squared / 2) / (count + squared)
    half = np.sqrt(squared * (ones * (count - ones) / count + squared / 4)) / (count + squared)
    return (centre - half).clip(0, 1), (centre + half).clip(0, 1)
