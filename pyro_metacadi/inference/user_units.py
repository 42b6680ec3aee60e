"""Single values between the user's units and those of a model: the maps of scalings, both ways."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.typing import Array

__all__ = ["Units", "counts_rows", "lowest", "to_model", "to_user"]

Units: TypeAlias = Standardizer | Representation | CountUnits

Map: TypeAlias = Callable[[Array], Array]

# A normal law gives values that no root, logarithm or count has: they are raised to zero.
MAPS: dict[str, tuple[Map, Map]] = {
    "identity": (lambda x: x, lambda y: y),
    "sqrt": (np.sqrt, lambda y: np.square(np.maximum(y, 0.0))),
    "log": (np.log, np.exp),
    "counts": (np.log1p, lambda y: np.maximum(np.expm1(y), 0.0)),
}
"""Of every representation: from the user's values, and back."""


ROUNDING = 1e-6
"""Of a variable's mean: what float32 leaves of a zero. Zeros have to be zeros to be counted."""


def counts_rows(units: Units) -> bool:
    """Whether rows are counts, measured each to a depth of its own."""
    return isinstance(units, CountUnits) or (
        isinstance(units, Representation) and units.kind == "counts"
    )


def lowest(units: Units) -> float:
    """The least value in the user's units that a model has units for."""
    kind = units.kind if isinstance(units, Representation) else "identity"
    if kind == "log":
        return float(np.finfo(float).tiny)
    return 0.0 if kind != "identity" or counts_rows(units) else -np.inf


def to_model(
    units: Units, values: Float[np.ndarray, "*batch variable"]
) -> Float[np.ndarray, "*batch variable"]:
    """Values in the user's units, not below `lowest`, in the model's; NaN stays NaN."""
    if isinstance(units, CountUnits):
        return values
    d = len(units.variables)
    forward, _ = MAPS[units.kind] if isinstance(units, Representation) else MAPS["identity"]
    # Halved, because the difference of two floats may be larger than the largest float.
    return (forward(values) / 2 - units.mean[:d] / 2) / units.scale[:d] * 2


def to_user(
    units: Units, values: Float[np.ndarray, "*batch variable"]
) -> Float[np.ndarray, "*batch variable"]:
    """The inverse of `to_model`; a model's value that the user's units have not becomes zero."""
    if isinstance(units, CountUnits):
        return values
    d = len(units.variables)
    _, backward = MAPS[units.kind] if isinstance(units, Representation) else MAPS["identity"]
    with np.errstate(over="ignore"):
        found = values * units.scale[:d] + units.mean[:d]
        return backward(np.where(np.abs(found) <= ROUNDING * np.abs(units.mean[:d]), 0.0, found))
