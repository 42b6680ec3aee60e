"""What every picture needs: checked probabilities, names as they are, the strongest part."""

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from pyro_metacadi._arrays import axis_labels, in_order
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any  # matplotlib is imported when something is drawn

__all__ = [
    "LITERAL",
    "MOST_SHOWN",
    "TRUTH_COLOUR",
    "Axes",
    "busiest",
    "checked_probs",
    "known_matrix",
    "names_along",
    "new_axes",
    "shown",
    "strongest_lines",
    "text_inches",
]

TRUTH_COLOUR = "#D55E00"  # vermilion: apart from every grey, also for colour-blind readers
LITERAL: dict[str, Any] = {"parse_math": False, "usetex": False}  # dollars in names are dollars
MOST_SHOWN = 50  # names along an axis that can still be read
LONGEST_NAME = 40
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def new_axes(width: float, height: float) -> Axes:
    """Axes of a new figure of that many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").subplots()


def shown(name: str) -> str:
    """A name as pictures show it: on one line, its middle left out beyond forty characters.

    What no SVG may hold is shown as the sign for such characters.
    """
    line = NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", " ".join(name.split("\n")))
    keep = LONGEST_NAME // 2
    return line if len(line) <= LONGEST_NAME else f"{line[: keep - 1]}…{line[-keep:]}"


def text_inches(text: str, *, size: float) -> float:
    """How wide a line of `size` points is."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    with warnings.catch_warnings():
        # Glyphs that the font lacks are warned of where the text is drawn.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        width, _, _ = TextToPath().get_text_width_height_descent(
            text, FontProperties(size=size), False
        )
    return width / 72


def strongest_lines(probs: Float[Array, "line column"], most: int) -> Array:
    """Positions, in order, of the `most` lines that have the greatest entries."""
    return np.sort(np.argsort(-probs.max(axis=1), kind="stable")[:most])


def busiest(edge_probs: Float[Array, "parent child"], most: int) -> Array:
    """Positions, in order, of the `most` variables with the greatest expected number of edges."""
    edges = edge_probs.sum(axis=0) + edge_probs.sum(axis=1)
    return np.sort(np.argsort(-edges, kind="stable")[:most])


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


def names_along(probs: xr.DataArray, dim: str) -> list[str]:
    """The names along an axis, as pictures show them."""
    return [shown(str(name)) for name in probs[dim].values]


def known_matrix(truth: Any, *, probs: xr.DataArray) -> Array:
    """What is known to be true, rows and columns as those of `probs`; nothing if that is None."""
    if truth is None:
        return np.zeros(probs.shape)
    rows, columns = map(str, probs.dims)
    labels = axis_labels(probs, dims=(rows, columns))
    known = in_order(truth, what="truth", dims=(rows, columns), labels=labels, error=DataError)
    if known.shape != probs.shape:
        raise DataError(
            f"truth: expected shape {list(probs.shape)} as the probabilities, got "
            f"{list(known.shape)}. Select and order its rows and columns as those of the "
            "probabilities."
        )
    return known
