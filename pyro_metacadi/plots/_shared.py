"""What every kind of picture needs: checked tables of probabilities, and the colours."""

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pyro_metacadi._arrays import in_order
from pyro_metacadi.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any  # matplotlib is imported when something is drawn

__all__ = ["TRUTH_COLOUR", "Axes", "checked_probs"]

TRUTH_COLOUR = "#D55E00"  # vermilion: apart from every grey, also for colour-blind readers


def checked_probs(probs: Any, *, what: str, dims: tuple[str, str]) -> xr.DataArray:
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
