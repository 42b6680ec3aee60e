"""Do probabilities keep their word? Observed shares over stated probabilities."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pyro_metacadi.calibration import calibration
from pyro_metacadi.calibration import reliability as reliability_table
from pyro_metacadi.plots._shared import Axes

if TYPE_CHECKING:
    import pandas

__all__ = ["reliability"]


def reliability(
    probabilities: ArrayLike, truth: ArrayLike, *, num_bins: int = 10, ax: Axes | None = None
) -> Axes:
    """Draw the observed share of ones over the stated probability, bin by bin.

    Points on the diagonal keep their word; below it, ones are rarer than stated. Bars are Wilson's
    95 % intervals; the strip on top counts the entries of each bin.

    Args:
        probabilities: P(entry is 1), any shape, as `pyro_metacadi.metrics.reliability` takes them.
        truth: 0/1, the same shape.
        num_bins: Number of bins of equal width.
        ax: Axes to draw on; a new figure by default.

    Raises:
        DataError: No entries, other shapes or names, probabilities outside 0 to 1, or truth that is
            not 0/1.
        ConfigError: `num_bins` is not a positive whole number.
    """
    table = reliability_table(probabilities, truth, num_bins=num_bins)
    error = calibration(probabilities, truth, num_bins=num_bins)["ece"]
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(4.2, 5.2), layout="constrained").subplots()
    table = table[table["count"] > 0]
    x, y = table["mean_probability"], table["observed_share"]
    bars = y - table["interval_low"], table["interval_high"] - y
    ax.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1)
    size = 5 if num_bins <= 20 else 3
    ax.errorbar(x, y, yerr=bars, fmt="o", color="black", elinewidth=1, capsize=2, markersize=size)
    _count_strip(ax, table, num_bins=num_bins)
    ax.set(aspect="equal", xlim=(-0.02, 1.02), xlabel="stated probability")
    ax.set_ylabel("observed share (95 % interval)", y=0.5 / 1.38)  # beside the ticks
    ax.set_title(f"n = {table['count'].sum()}, expected calibration error {error:.3f}", size=9)
    return ax


def _count_strip(ax: Axes, table: "pandas.DataFrame", *, num_bins: int) -> None:
    """Draw above a share of 1 how many entries each bin holds, taller by the logarithm."""
    count, centre = table["count"], (table["low"] + table["high"]) / 2
    height = 0.14 * np.log1p(count) / np.log1p(count.max())
    ax.bar(centre, height, bottom=1.1, width=1 / num_bins, color="0.8", ec="white")
    if num_bins <= 25:  # more numbers than that could not be read
        turn = 90 if num_bins > 10 else 0
        for x, y, number in zip(centre, 1.11 + height, count, strict=True):
            ax.text(x, y, str(number), size=7, ha="center", va="bottom", rotation=turn)
    ax.text(-0.05, 1.1, "entries", size=8, ha="right", va="bottom")
    ticks = np.linspace(0, 1, 6)
    ax.set(ylim=(-0.02, 1.38), xticks=ticks, yticks=ticks)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["left"].set_bounds(0, 1)
