"""Which task the model does not explain."""

import numpy as np
import xarray as xr

from pyro_metacadi.checks import check_count
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.typing import Array

__all__ = ["FEWEST_REPLICATES", "NOT_EXPLAINED", "explained_tasks"]

FEWEST_REPLICATES = 10
"""Of each chain: of fewer the standard deviation says nothing, of one it is zero."""

NOT_EXPLAINED = {"all rows": 3.0, "worst row": 4.7}
"""Standard deviations by which replicated rows fit better than the measured ones.

About one task in 700 that the model explains has as much by each: a sum of many rows is about
normal, a least one of many follows Gumbel's law."""


def explained_tasks(posterior: Posterior, *, num_draws: int = 100, seed: int = 0) -> xr.Dataset:
    """Posterior predictive check of every task: are its rows such as the model would make?

    For each draw of graph and targets, rows are drawn in place of the measured ones
    (`Posterior.replicate`), and both are scored. Two things are compared, each task on its own: the
    log density of all of its rows, and that of its worst row, which finds single rows out. Rows
    were seen in the fit, which makes p-values larger than they should be: a small one means what it
    says, a large one little.

    Args:
        posterior: Of either engine.
        num_draws: Of each chain, at least ten.
        seed: Of the draws.

    Returns:
        Over (task): ``p_value``, the share of draws whose rows are at most as probable as the
        measured ones, twice the smaller of the two; ``excess``, by how many standard deviations
        replicated rows are more probable; ``explained``, whether that is below 3 for all rows and
        below 4.7 for the worst; and ``statistic``, ``"all rows"`` or ``"worst row"``, of which
        ``excess`` is told, the one that is nearer to its limit.

    Raises:
        ConfigError: There are fewer draws.
        MetaCaDIError: The chains cannot draw rows, see `Posterior.replicate`.

    Source: Gelman, Meng and Stern 1996.
    """
    num_draws = check_count("num_draws", num_draws, minimum=FEWEST_REPLICATES)
    rows = posterior.replicate(num_draws, seed=seed)
    first = np.cumsum(posterior.tasks.num_rows)[:-1]
    pair = [
        np.split(rows[name].values.reshape(-1, rows.sizes["obs"]).astype(float), first, axis=1)
        for name in ("log_prob", "observed_log_prob")
    ]
    found = [_compared(new, old) for new, old in zip(*pair, strict=True)]
    p_value, excess = (np.array(part) for part in zip(*found, strict=True))
    share = excess / np.array(list(NOT_EXPLAINED.values()))
    nearer = share.argmax(1)
    return xr.Dataset(
        {
            "p_value": ("task", np.minimum(1.0, 2 * p_value.min(1))),
            "excess": ("task", np.take_along_axis(excess, nearer[:, None], 1)[:, 0]),
            "explained": ("task", share.max(1) < 1),
            "statistic": ("task", np.array(list(NOT_EXPLAINED))[nearer]),
        },
        coords={"task": list(posterior.tasks.tasks)},
    )


def _compared(new: Array, old: Array) -> tuple[list[float], list[float]]:
    """p-values and excesses of a task's rows, ``[draw, row]``, and of its worst row."""
    p_values, excesses = [], []
    for replicated, observed in ((new.sum(1), old.sum(1)), (new.min(1), old.min(1))):
        gain = replicated - observed
        p_values.append((1 + (gain <= 0).sum()) / (1 + len(gain)))
        excesses.append(gain.mean() / max(replicated.std(), 1e-12))
    return p_values, excesses
