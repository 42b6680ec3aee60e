"""What one task hit: its variables from the most to the least suspicious."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from pyro_metacadi.checks import check_count
from pyro_metacadi.data.names import did_you_mean, listed
from pyro_metacadi.errors import DataError
from pyro_metacadi.plots._shared import (
    LITERAL,
    TRUTH_COLOUR,
    Axes,
    checked_probs,
    new_axes,
    shown,
    text_inches,
)
from pyro_metacadi.typing import Array

__all__ = ["ranked_targets"]

LINE, SIZE = 0.24, 9.0  # inches, points
SPREAD = (0.05, 0.95)


def ranked_targets(
    target_probs: Float[xr.DataArray, "..."],
    task: str,
    *,
    truth: Sequence[str] = (),
    max_shown: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """Draw how probable it is that a task hit each variable, the most probable on top.

    The probability itself says how uncertain the hit is. Bars, where there are any, say how much it
    depends on which of the sampled graphs is true: 90 % of them give a probability within the bar.
    They are no confidence interval of the dot, which is the mean over all graphs.

    Args:
        target_probs: Over task and variable, as `Posterior.target_probs`, without bars; or with a
            further axis chain, draw, or both, as `Posterior.target_probs_by_graph`, with bars.
        task: Name of the task.
        truth: Names of the variables that it is known to have hit, ringed.
        max_shown: Variables to show at most; the title says so.
        ax: Axes to draw on; a new figure by default.

    Raises:
        DataError: `target_probs` has other axes, or values that are no probabilities; the task, or
            a variable in `truth`, is not in it.
        ConfigError: `max_shown` is not a positive whole number.
    """
    by_graph, probs = _of_task(target_probs, task)
    names = [str(name) for name in probs["variable"].values]
    hit = _known(truth, names)
    order = np.argsort(-probs.values, kind="stable")[: check_count("max_shown", max_shown)]
    labels, y = [shown(names[at]) for at in order], np.arange(len(order))
    if ax is None:
        margin = max(text_inches(label, size=SIZE) for label in labels)
        ax = new_axes(4.2 + margin, LINE * len(order) + 1.2)
    if by_graph is not None:
        low, high = np.quantile(by_graph[:, order], SPREAD, axis=0)
        ax.hlines(y, low, high, color="0.6", linewidth=4)
    ax.hlines(y, 0, probs.values[order], color="0.85", linewidth=1, zorder=0)
    ax.plot(probs.values[order], y, "o", color="black", markersize=5)
    ringed = [at for at, position in enumerate(order) if position in hit]
    if ringed:
        ax.plot(
            probs.values[order][ringed], ringed, "o", markersize=10, markerfacecolor="none",
            color=TRUTH_COLOUR, markeredgewidth=1.5, label="known target",
        )  # fmt: skip
        ax.legend(loc="lower right", frameon=False, fontsize=8)
    ax.set_yticks(y, labels, fontsize=SIZE, **LITERAL)
    ax.set(xlim=(-0.02, 1.02), ylim=(len(order) - 0.4, -0.6))
    ax.set_xlabel("probability of being hit")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(_title(task, by_graph, len(order), len(names)), size=9, loc="left", **LITERAL)
    return ax


def _of_task(probs: xr.DataArray, task: str) -> tuple[Array | None, xr.DataArray]:
    """Of one task: probabilities ``[graph, variable]``, if there are several, and their means."""
    beyond = [dim for dim in ("chain", "draw") if dim in getattr(probs, "dims", ())]
    means = probs.mean(beyond) if beyond else probs
    means = checked_probs(means, what="target_probs", dims=("task", "variable"))
    names = [str(name) for name in means["task"].values]
    if task not in names:
        raise DataError(f"task: expected a known name, got {task!r}. {did_you_mean(task, names)}")
    at = names.index(task)
    if not beyond:
        return None, means[at]
    each = probs.transpose(*beyond, "task", "variable").isel(task=at).values
    return each.reshape(-1, each.shape[-1]), means[at]


def _known(truth: Sequence[str], names: Sequence[str]) -> set[int]:
    unknown = [str(name) for name in truth if name not in names]
    if unknown:
        raise DataError(
            f"truth: expected names of variables, got {listed(map(repr, unknown))}. "
            f"{did_you_mean(unknown[0], names)}"
        )
    return {names.index(name) for name in truth}


def _title(task: str, by_graph: Array | None, kept: int, num_variables: int) -> str:
    parts = [shown(task)]
    if kept < num_variables:
        parts.append(f"the {kept} most probable of {num_variables} variables")
    if by_graph is not None:
        parts.append(f"bars: under 90 % of {len(by_graph)} sampled graphs")
    return "\n".join(parts)
