"""Pictures of a posterior: who causes whom, what each task hit, and how far to believe it.

Darker is more probable, so the pictures survive a greyscale printer; what is known to be true is
outlined. Figures are made through matplotlib's object interface: no window, no global state, no
change of backend. In a notebook, ``ax.figure`` shows the picture.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from pyro_metacadi._arrays import axis_labels, in_order
from pyro_metacadi._files import checked_path, staged_file
from pyro_metacadi.calibration import calibration
from pyro_metacadi.calibration import reliability as reliability_table
from pyro_metacadi.errors import ConfigError, DataError
from pyro_metacadi.typing import Array

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
else:
    Axes = Any  # matplotlib is imported when something is drawn

__all__ = ["edge_heatmap", "reliability", "save_figure", "target_heatmap"]

TRUTH_COLOUR = "#D55E00"  # vermilion: apart from every grey, also for colour-blind readers
CELL_INCHES = (0.16, 0.42)  # the smallest cell that carries a label, and the largest worth drawing


def edge_heatmap(
    edge_probs: Float[xr.DataArray, "parent child"],
    *,
    truth: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the posterior probability of every edge; rows are parents, columns children.

    Args:
        edge_probs: P(X_i -> X_j), row = cause, as `Posterior.edge_probs`.
        truth: Known graph, outlined: ``[parent, child]`` of 0 and 1, row = cause; in the same order
            unless it is a DataFrame or DataArray with names.
        ax: Axes to draw on; a new figure by default.

    Raises:
        DataError: `edge_probs` has other axes, or values that are no probabilities; `truth` has
            another shape or other names.
    """
    probs = _checked(edge_probs, what="edge_probs", dims=("parent", "child"))
    ax = _heatmap(probs, label="probability of the edge", ax=ax)
    ax.set_ylabel("parent (cause)")
    ax.set_xlabel("child (effect)")
    _outline(ax, truth, probs=probs, label="known edge")
    return ax


def target_heatmap(
    target_probs: Float[xr.DataArray, "task variable"],
    *,
    truth: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw, for every task, the posterior probability that it hit each variable.

    Args:
        target_probs: Probabilities, as `Posterior.target_probs`.
        truth: Known targets, outlined: ``[task, variable]`` of 0 and 1; in the same order unless it
            is a DataFrame or DataArray with names.
        ax: Axes to draw on; a new figure by default.

    Raises:
        DataError: `target_probs` has other axes, or values that are no probabilities; `truth` has
            another shape or other names.
    """
    probs = _checked(target_probs, what="target_probs", dims=("task", "variable"))
    ax = _heatmap(probs, label="probability of being hit", ax=ax)
    ax.set_ylabel("task")
    ax.set_xlabel("variable")
    _outline(ax, truth, probs=probs, label="known target")
    return ax


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


def save_figure(ax: Axes, path: str | os.PathLike[str]) -> None:
    """Write the figure that holds `ax`; the extension chooses the format (png, pdf, svg).

    Raises:
        ConfigError: The folder does not exist, matplotlib cannot write this format, or the file
            cannot be written; an older file is then as it was.
    """
    path = checked_path(path, what="figure path", error=ConfigError)
    figure = ax.figure.figure  # an axes of a sub-figure too belongs to one whole figure
    formats = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix.lstrip(".").lower() not in formats:
        raise ConfigError(
            f"figure format: expected one of {', '.join(formats)}, got {path.suffix!r}. "
            "Name the file like 'edges.png'."
        )
    if not path.parent.is_dir():
        raise ConfigError(
            f"figure path: expected an existing folder, got '{path.parent}'. Create it first."
        )
    try:
        with staged_file(path) as fresh:
            figure.savefig(fresh, dpi=150)
    except OSError as error:
        raise ConfigError(
            f"figure path: expected a file that can be written, got '{path}' "
            f"({error.strerror or error}). Choose another name or free some space."
        ) from error


def _checked(probs: Any, *, what: str, dims: tuple[str, str]) -> xr.DataArray:
    """Return probabilities as floats, rows and columns as in `dims`."""
    if not isinstance(probs, xr.DataArray):
        raise DataError(
            f"{what}: expected a DataArray over {' and '.join(dims)}, got {type(probs).__name__}. "
            f"Pass posterior.{what}."
        )
    values = in_order(probs, what=what, dims=dims, labels=(None, None), error=DataError)
    values = values.astype(float)
    if not values.size:
        raise DataError(f"{what}: expected at least one row and column, got none. Pass some.")
    if not np.all((values >= 0) & (values <= 1)):
        worst = values[~((values >= 0) & (values <= 1))][0]
        raise DataError(
            f"{what}: expected probabilities from 0 to 1, got {worst:g}. "
            "Pass the posterior's probabilities, not scores or logits."
        )
    return probs.transpose(*dims).copy(data=values)


def _heatmap(probs: xr.DataArray, *, label: str, ax: Axes | None) -> Axes:
    rows, columns = (probs[dim].values.astype(str) for dim in probs.dims)
    ax = ax if ax is not None else _new_axes(rows, columns)
    image = ax.imshow(
        probs.values, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="none"
    )
    size = _font_size(max(len(rows), len(columns)))
    ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
    ax.set_yticks(range(len(rows)), rows, fontsize=size)
    ax.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, len(rows)) - 0.5, minor=True)
    ax.grid(which="minor", color="0.85", linewidth=0.5)
    ax.tick_params(which="both", length=0)
    height = ax.bbox.height / ax.figure.dpi
    ax.figure.colorbar(image, ax=ax, label=label, aspect=max(6 * height, 6))  # 1/6 inch thick
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


def _new_axes(rows: Array, columns: Array) -> Axes:
    from matplotlib.figure import Figure

    cell = _cell_inches(max(len(rows), len(columns)))
    margin = 0.08 * max(len(name) for name in (*rows, *columns)) + 0.8
    width, height = (max(cell * len(names), 1.5) + margin for names in (columns, rows))
    return Figure(figsize=(width + 0.8, height), layout="constrained").subplots()


def _cell_inches(count: int) -> float:
    smallest, largest = CELL_INCHES
    return float(np.clip(8.0 / count, smallest, largest))


def _font_size(count: int) -> float:
    """Three fifths of a cell's height, in points."""
    return min(10.0, 0.6 * 72 * _cell_inches(count))


def _outline(ax: Axes, truth: Any, *, probs: xr.DataArray, label: str) -> None:
    if truth is None:
        return
    shape, (rows, columns) = probs.shape, map(str, probs.dims)
    labels = axis_labels(probs, dims=(rows, columns))
    known = in_order(truth, what="truth", dims=(rows, columns), labels=labels, error=DataError)
    if known.shape != shape:
        raise DataError(
            f"truth: expected shape {list(shape)} as the probabilities, got {list(known.shape)}. "
            "Select and order its rows and columns as those of the probabilities."
        )
    from matplotlib.patches import Rectangle

    cells, line = np.argwhere(known != 0), 4.5 * _cell_inches(max(shape))
    for width, colour in ((2 * line, "white"), (line, TRUTH_COLOUR)):  # a halo, for black cells
        for row, column in cells:
            corner = (column - 0.42, row - 0.42)
            ax.add_patch(Rectangle(corner, 0.84, 0.84, fill=False, ec=colour, lw=width))
    if len(cells):
        handle = Rectangle((0, 0), 1, 1, fill=False, ec=TRUTH_COLOUR, lw=line)
        ax.legend([handle], [label], loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False)
