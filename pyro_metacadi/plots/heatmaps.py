"""Heat maps of edges and of targets; what is known to be true is outlined."""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from pyro_metacadi._arrays import axis_labels, in_order
from pyro_metacadi.errors import DataError
from pyro_metacadi.plots._shared import TRUTH_COLOUR, Axes, checked_probs
from pyro_metacadi.typing import Array

__all__ = ["edge_heatmap", "target_heatmap"]

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
    probs = checked_probs(edge_probs, what="edge_probs", dims=("parent", "child"))
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
    probs = checked_probs(target_probs, what="target_probs", dims=("task", "variable"))
    ax = _heatmap(probs, label="probability of being hit", ax=ax)
    ax.set_ylabel("task")
    ax.set_xlabel("variable")
    _outline(ax, truth, probs=probs, label="known target")
    return ax


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
