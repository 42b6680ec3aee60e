"""Arrays as users pass them: made numeric, and put in order by the labels that they carry.

Labelled tables (a pandas DataFrame, an xarray DataArray) are recognised by their attributes, so
that neither library is imported here.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from pyro_metacadi.errors import MetaCaDIError
from pyro_metacadi.typing import Array

__all__ = ["Labels", "as_numeric", "axis_labels", "in_order"]

Labels: TypeAlias = Sequence[str] | None
"""Names along an axis, in order; None where an axis has none."""


def as_numeric(values: Any, *, what: str, error: type[MetaCaDIError]) -> Array:
    """Return `values` as an array of real numbers or booleans.

    Args:
        values: Anything that numpy reads; Python's numbers may come as objects.
        what: The argument's name, for the message.
        error: The class to raise.

    Raises:
        MetaCaDIError: Rows of unequal length, text, complex numbers, missing values or objects;
            of the class `error`.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as reason:
        why = " ".join(str(reason).split())
        raise error(
            f"{what}: expected an array of numbers, got {type(values).__name__} ({why}). "
            "Pass a numpy array with rows of equal length."
        ) from reason
    if array.dtype.kind in "biuf":
        return array
    plain = (int, float, np.bool_, np.integer, np.floating)
    wrong = [cell for cell in array.ravel().tolist() if not isinstance(cell, plain)]
    if wrong:
        raise error(
            f"{what}: expected numbers, got {wrong[0]!r:.40} among {array.size} entries. "
            "Convert the entries to numbers first."
        )
    return array.astype(np.float64)


def axis_labels(matrix: Any, *, dims: tuple[str, str]) -> tuple[Labels, Labels]:
    """Return the names of rows and columns that a labelled table carries, else None for each.

    Args:
        matrix: A DataArray over `dims`, a DataFrame, or an array, which carries none. Numbers that
            pandas makes up where none are given are no names.
        dims: What the rows and the columns are.
    """
    if hasattr(matrix, "dims") and hasattr(matrix, "coords"):
        rows, columns = (matrix[dim].values if dim in matrix.coords else None for dim in dims)
    elif hasattr(matrix, "columns") and hasattr(matrix, "index"):
        axes = (matrix.index, matrix.columns)
        rows, columns = (None if type(axis).__name__ == "RangeIndex" else axis for axis in axes)
    else:
        return None, None
    return _names(rows), _names(columns)


def _names(axis: Any) -> Labels:
    return None if axis is None else [str(name) for name in axis]


def in_order(
    matrix: Any,
    *,
    what: str,
    dims: tuple[str, str],
    labels: tuple[Labels, Labels],
    error: type[MetaCaDIError],
) -> Array:
    """Return a matrix as numbers, its rows and columns in the order of `labels`.

    Args:
        matrix: A DataArray, whose axes are found by name; a DataFrame; or an array. What carries no
            labels is in order already.
        what: The argument's name, for the message.
        dims: What the rows and the columns are; a DataArray must have exactly these axes.
        labels: The order of rows and of columns; None takes an axis as it comes.
        error: The class to raise.

    Raises:
        MetaCaDIError: Not numeric, other axes, or other labels; of the class `error`.
    """
    if hasattr(matrix, "dims") and hasattr(matrix, "coords"):
        if sorted(map(str, matrix.dims)) != sorted(dims):
            raise error(
                f"{what}: expected the axes {', '.join(dims)}, got "
                f"{', '.join(map(str, matrix.dims)) or 'none'}. Rename them, or pass .values."
            )
        matrix = matrix.transpose(*dims)
    array = as_numeric(matrix, what=what, error=error)
    own = axis_labels(matrix, dims=dims)
    for axis, (dim, mine, wanted) in enumerate(zip(dims, own, labels, strict=True)):
        if mine is not None and wanted is not None and list(mine) != list(wanted):
            at = _positions(mine, wanted, what=f"{what}, labels of axis {dim}", error=error)
            array = np.take(array, at, axis=axis)
    return array


def _positions(
    mine: Sequence[str], wanted: Sequence[str], *, what: str, error: type[MetaCaDIError]
) -> list[int]:
    if sorted(mine) != sorted(wanted):
        missing = [name for name in wanted if name not in mine] or ["none"]
        unknown = [name for name in mine if name not in wanted] or ["none"]
        raise error(
            f"{what}: expected the same {len(wanted)} names, got {missing[0]!r} missing and "
            f"{unknown[0]!r} unknown. Select or rename its rows and columns."
        )
    place = {name: at for at, name in enumerate(mine)}
    return [place[name] for name in wanted]
