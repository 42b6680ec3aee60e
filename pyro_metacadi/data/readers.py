"""Tables that hold all tasks, and a column that says which row is from which task."""

import csv
import gzip
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from pandas.api.types import is_complex_dtype, is_numeric_dtype

from pyro_metacadi._files import checked_path
from pyro_metacadi.data.covariates import as_text
from pyro_metacadi.data.names import check_names, listed, position_of
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["grouped_rows", "joined_frame", "read_table"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_NO_VALUE = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>"]
_NO_LABEL = [""]  # a condition may well be called "None" or "NA"
# NotImplementedError is how Arrow says that a column type of a Parquet file is not supported.
_UNREADABLE = (OSError, ValueError, EOFError, csv.Error, zlib.error, NotImplementedError)


def grouped_rows(
    df: Any, *, task: Any, covariates: Any = (), groups: Any = ()
) -> tuple[list[Array], list[str], list[str], dict[str, Any]]:
    """Group the rows of a DataFrame by its column `task`.

    Returns:
        Arrays of shape [rows, variable], one for each task in order of first appearance; names of
        the variables, which are the columns left; names of the tasks; the covariates by name.

    Raises:
        DataError: Not a DataFrame; a column twice; no such columns; labels missing or unhashable.
    """
    if not isinstance(df, pd.DataFrame):
        raise DataError(
            f"df: expected a pandas DataFrame, got {type(df).__name__}. "
            f"Use TaskDataset.from_arrays for arrays."
        )
    if df.empty:
        raise DataError("rows: expected at least one row, got an empty table. Pass one with rows.")
    names = check_names(df.columns, what="columns")
    at = position_of(str(task), among=names, what="task column")
    codes, labels = _task_codes(df.iloc[:, at])
    quantities = check_names(covariates, what="covariates")
    labelled = check_names(groups, what="groups")
    beside = [
        position_of(name, among=names, what="covariate")
        for name in check_names((*quantities, *labelled), what="covariates")
    ]
    if at in beside:
        raise DataError(
            f"covariates: expected others than the task column, got {names[at]!r}. Leave it out."
        )
    order = np.argsort(codes, kind="stable")
    rows = _cells(df.drop(columns=df.columns[[at, *beside]]))[order]
    arrays = np.split(rows, np.cumsum(np.bincount(codes))[:-1])
    variables = [name for place, name in enumerate(names) if place not in (at, *beside)]
    columns: dict[str, Any] = {names[place]: df.iloc[order, place] for place in beside}
    columns |= {name: as_text(columns[name]) for name in labelled}
    return arrays, variables, labels, columns


def _task_codes(column: pd.Series) -> tuple[Array, list[str]]:
    """Number a column's labels by first appearance."""
    missing = int(column.isna().sum())
    if missing:
        raise DataError(
            f"task column: expected a label in every row, got {missing} of {len(column)} missing "
            f"at column {str(column.name)!r}. Fill them in or drop these rows."
        )
    try:
        codes, labels = pd.factorize(column)
    except TypeError as error:
        raise DataError(
            f"task column: expected hashable labels, got {column.iloc[0]!r} at column "
            f"{str(column.name)!r}. Turn them into strings."
        ) from error
    return codes, [str(label) for label in labels]


def _cells(frame: pd.DataFrame) -> Array:
    """Return the cells as float64 where all columns are numeric (NA is NaN), else as objects."""
    if all(is_numeric_dtype(kind) and not is_complex_dtype(kind) for kind in frame.dtypes):
        with np.errstate(over="ignore"):
            return frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return frame.to_numpy(dtype=object)


def joined_frame(
    values: Float[np.ndarray, "rows variable"],
    num_rows: Int[np.ndarray, " task"],
    *,
    variables: Sequence[str],
    tasks: Sequence[str],
    column: str,
    covariates: Mapping[str, Array],
) -> pd.DataFrame:
    """Return all rows as one DataFrame, whose first `column` holds each row's task.

    Raises:
        DataError: A variable or covariate is called `column`.
    """
    if column in (*variables, *covariates):
        raise DataError(
            f"task column: expected a name that no other column has, got {column!r}. "
            f"Pass another name, such as task='condition'."
        )
    frame = pd.DataFrame(values.copy(), columns=list(variables))
    for at, (name, known) in enumerate(covariates.items()):
        frame.insert(at, name, known)
    frame.insert(0, column, np.repeat(np.array(tasks, dtype=object), num_rows))
    return frame


def read_table(
    path: str | os.PathLike[str], *, task: str, groups: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a .csv, .tsv (either may end in .gz) or .parquet file.

    Args:
        path: The file.
        task: The column whose labels are read as they are written (``01``, ``NA``).
        groups: More such columns, but NA is missing there.

    Raises:
        DataError: Unknown extension; unreadable, empty or wrongly delimited. Names the path.
    """
    path = checked_path(path, what="file", error=DataError)
    extension = Path(path.stem if path.suffix == ".gz" else path).suffix.lower()
    try:
        if extension == ".parquet" and path.suffix != ".gz":
            return _read_parquet(path)
        if extension in _DELIMITERS:
            with _open(path) as handle:
                return _read_delimited(
                    handle, delimiter=_DELIMITERS[extension], task=task, groups=groups
                )
    except DataError as error:
        raise DataError(f"file {str(path)!r}: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"file {str(path)!r}: expected text in UTF-8, got another encoding, such as UTF-16. "
            "Save the table as UTF-8 (in Excel: 'CSV UTF-8')."
        ) from error
    except _UNREADABLE as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DataError(
            f"file {str(path)!r}: expected a readable table, got {type(error).__name__} "
            f"({' '.join(why.split())[:200]}). Check the path and that the content is what the "
            "extension says."
        ) from error
    raise DataError(
        f"file {str(path)!r}: expected .csv, .tsv, .csv.gz, .tsv.gz or .parquet, got extension "
        f"{extension!r}. Rename the file, or read it with pandas and use from_dataframe."
    )


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read a table whose columns have names of their own: Arrow finds none that is there twice."""
    from pyarrow.parquet import read_schema

    check_names(read_schema(path).names, what="columns")
    return pd.read_parquet(path)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read_delimited(
    handle: IO[str], *, delimiter: str, task: str, groups: Sequence[str]
) -> pd.DataFrame:
    """Read a header, then rows that have as many fields.

    The header is read apart: pandas would rename a column that is there twice, and take the first
    column for an index where rows are longer than the header.
    """
    header = next((row for row in csv.reader(handle, delimiter=delimiter) if row), [])
    _check_header(header, delimiter=delimiter)
    dtypes: dict[Any, Any] = {
        at: str for at, name in enumerate(header) if name == task or name in groups
    }
    missing: dict[Any, Any] = {
        at: _NO_LABEL if name == task else _NO_VALUE for at, name in enumerate(header)
    }
    try:
        frame = pd.read_csv(
            handle,
            sep=delimiter,
            header=None,
            low_memory=False,
            dtype=dtypes,
            na_values=missing,
            keep_default_na=False,
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=header)
    if frame.shape[1] != len(header):
        raise DataError(
            f"header: expected {frame.shape[1]} names, one for each field of a row, got "
            f"{len(header)} ({listed(map(repr, header))}). Name every column."
        )
    return frame.set_axis(header, axis=1)


def _check_header(header: list[str], *, delimiter: str) -> None:
    if not header:
        raise DataError("table: expected a header and rows, got an empty file. Write it again.")
    others = [mark for mark in (";", "\t", ",", "|") if mark != delimiter and mark in header[0]]
    if len(header) == 1 and others:
        raise DataError(
            f"header: expected columns separated by {delimiter!r}, got {others[0]!r} in "
            f"{header[0]!r:.60}. Save the table with {delimiter!r} between columns."
        )
    if not all(name.strip() for name in header):
        raise DataError(
            "header: expected a name for every column, got none at column "
            f"{[bool(name.strip()) for name in header].index(False) + 1}. Name it, or leave out "
            f"the row index (pandas: index=False)."
        )
