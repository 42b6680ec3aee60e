"""Files that hold all tasks, and a column that says which row is from which task."""

import csv
import gzip
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import pandas as pd

from pyro_metacadi._files import checked_path
from pyro_metacadi.data.frames import task_position
from pyro_metacadi.data.names import check_names, listed
from pyro_metacadi.errors import DataError

__all__ = ["read_pieces", "read_table", "told_of"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_NO_VALUE = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>"]
_NO_LABEL = [""]  # a condition may well be called "None" or "NA"
# NotImplementedError is how Arrow says that a column type of a Parquet file is not supported.
_UNREADABLE = (OSError, ValueError, EOFError, csv.Error, zlib.error, NotImplementedError)
_BUFFER = 2**20


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
    with told_of(path):
        delimiter = _delimiter(path)
        if delimiter is None:
            return _read_parquet(path)
        with _open(path) as handle:
            return next(_delimited(handle, delimiter=delimiter, task=task, groups=groups))


def read_pieces(
    path: Path,
    *,
    size: int,
    task: str,
    groups: Sequence[str] = (),
    only_tasks: bool = False,
    dtypes: Mapping[str, type] | None = None,
) -> Iterator[pd.DataFrame]:
    """Read a file as `read_table` does, some rows at a time; at least one piece comes.

    Args:
        path: The file.
        size: Values of a piece, at most (but one row).
        task: As in `read_table`.
        groups: As in `read_table`.
        only_tasks: Leave out other columns than `task` where that saves time (Parquet).
        dtypes: Of columns of text files that one piece alone would not tell.

    Raises:
        DataError: As `read_table`, but the path is not named. Others as they come; see `told_of`.
    """
    delimiter = _delimiter(path)
    if delimiter is None:
        yield from _parquet_pieces(path, size=size, only=task if only_tasks else None)
        return
    with _open(path) as handle:
        yield from _delimited(
            handle, delimiter=delimiter, task=task, groups=groups, size=size, dtypes=dtypes or {}
        )


def _delimiter(path: Path) -> str | None:
    """Between the fields of a text file; None for a Parquet file."""
    extension = Path(path.stem if path.suffix == ".gz" else path).suffix.lower()
    if extension == ".parquet" and path.suffix != ".gz":
        return None
    if extension not in _DELIMITERS:
        raise DataError(
            f"expected .csv, .tsv, .csv.gz, .tsv.gz or .parquet, got extension {extension!r}. "
            "Rename the file, or read it with pandas and use from_dataframe."
        )
    return _DELIMITERS[extension]


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Name the file in every error that reading it raises.

    Raises:
        DataError: Reading failed, or what was read is not usable.
    """
    try:
        yield
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


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read a table whose columns have names of their own: Arrow finds none that is there twice."""
    from pyarrow.parquet import read_schema

    check_names(read_schema(path).names, what="columns")
    return pd.read_parquet(path)


def _parquet_pieces(path: Path, *, size: int, only: str | None) -> Iterator[pd.DataFrame]:
    from pyarrow import default_memory_pool
    from pyarrow.parquet import ParquetFile

    # Not read ahead, but through a buffer: a row group may be larger than memory.
    with ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
        names = check_names(file.schema_arrow.names, what="columns")
        empty = file.schema_arrow.empty_table().to_pandas()  # without what is its index
        if not file.metadata.num_rows:
            yield empty
            return
        columns = None
        if only is not None:
            there = [str(column) for column in empty.columns]
            columns = [there[task_position(empty, there, task=only)]]
        for batch in file.iter_batches(
            max(1, size // len(names)), columns=columns, use_threads=False
        ):
            yield batch.to_pandas(use_threads=False)
    default_memory_pool().release_unused()


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _delimited(
    handle: IO[str],
    *,
    delimiter: str,
    task: str,
    groups: Sequence[str],
    size: int | None = None,
    dtypes: Mapping[str, type] = MappingProxyType({}),
) -> Iterator[pd.DataFrame]:
    """Read a header, then rows that have as many fields: all at once, or `size` values at a time.

    The header is read apart: pandas would rename a column that is there twice, and take the first
    column for an index where rows are longer than the header.
    """
    header = next((row for row in csv.reader(handle, delimiter=delimiter) if row), [])
    _check_header(header, delimiter=delimiter)
    known = {**dtypes, **dict.fromkeys((task, *groups), str)}
    frames = _frames(
        handle,
        width=len(header),
        rows=None if size is None else max(1, size // len(header)),
        sep=delimiter,
        dtype={at: known[name] for at, name in enumerate(header) if name in known},
        na_values={at: _NO_LABEL if name == task else _NO_VALUE for at, name in enumerate(header)},
    )
    for frame in frames:
        if frame.shape[1] != len(header):
            raise DataError(
                f"header: expected {frame.shape[1]} names, one for each field of a row, got "
                f"{len(header)} ({listed(map(repr, header))}). Name every column."
            )
        yield frame.set_axis(header, axis=1)


def _frames(
    handle: IO[str], *, width: int, rows: int | None, **options: Any
) -> Iterator[pd.DataFrame]:
    """What follows a header: all at once, or so many rows at a time; at least one frame."""
    try:
        read: Any = pd.read_csv(
            handle,
            header=None,
            low_memory=False,
            keep_default_na=False,
            chunksize=rows,
            **options,
        )
    except pd.errors.EmptyDataError:
        read = pd.DataFrame(columns=range(width))
    yield from [read] if isinstance(read, pd.DataFrame) else read


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
