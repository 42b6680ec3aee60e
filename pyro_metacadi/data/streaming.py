"""Tasks whose rows stay on disk: a table is copied, piece by piece, to a file that memory maps."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pyro_metacadi._files import checked_path
from pyro_metacadi.data.covariates import Covariates, as_column, as_covariates
from pyro_metacadi.data.frames import check_labels, grouped_rows, task_codes, task_column
from pyro_metacadi.data.names import check_names
from pyro_metacadi.data.ondisk import blocks
from pyro_metacadi.data.readers import read_pieces, told_of
from pyro_metacadi.data.validation import Cells, as_table
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["Parts", "map_array", "map_table"]

Parts = tuple[
    Float[np.ndarray, "rows variable"],
    Int[np.ndarray, " task"],
    tuple[str, ...],
    tuple[str, ...],
    Covariates,
]
"""The arguments that make a `TaskDataset`: values, rows of each task, names, covariates."""

PIECE = 2**19
"""Values that are read at a time: 4 MiB of float64, and several copies of them."""


def map_table(
    path: str | os.PathLike[str],
    *,
    task: str,
    covariates: Sequence[str],
    groups: Sequence[str],
    ignore: Sequence[str],
    cache: str | os.PathLike[str] | None,
) -> Parts:
    """Copy the rows of a file, task after task, to a file without a name, and map it.

    The file is read twice: where a task's rows go depends on how many rows other tasks have. See
    `TaskDataset.open`, of which these are the arguments and errors.
    """
    path = checked_path(path, what="file", error=DataError)
    folder = path.parent if cache is None else cache
    folder = checked_path(folder, what="cache", error=DataError)
    with told_of(path):
        num_rows, dtypes = _survey(path, task=task, groups=groups)
        check_names(num_rows, what="tasks")
        with _scratch(folder) as scratch:
            copy = _Copy(scratch, folder, num_rows)
            pieces = read_pieces(path, size=PIECE, task=task, groups=groups, dtypes=dtypes)
            named = {"covariates": covariates, "groups": groups, "ignore": ignore}
            for frame in pieces:
                copy.add(*grouped_rows(frame, task=task, **named))
            return copy.mapped()


def _survey(
    path: Path, *, task: str, groups: Sequence[str]
) -> tuple[dict[str, int], dict[str, type]]:
    """Count the rows of every task, and see of which types columns are in all pieces together."""
    counts: Counter[str] = Counter()
    kinds: dict[str, str] = {}
    total = missing = 0
    for frame in read_pieces(path, size=PIECE, task=task, groups=groups, only_tasks=True):
        names, at = task_column(frame, task=task)
        column = frame.iloc[:, at]
        absent = column.isna()
        total, missing = total + len(column), missing + int(absent.sum())
        codes, labels = task_codes(column[~absent])
        counts.update(dict(zip(labels, np.bincount(codes).tolist(), strict=True)))
        for place, name in enumerate(names):
            kinds[name] = _common(kinds.get(name, ""), _kind(frame.iloc[:, place]))
    check_labels(missing, num_rows=total, column=str(task))
    known: dict[str, type] = {"text": str, "float": np.float64}
    return dict(counts), {name: known[kind] for name, kind in kinds.items() if kind in known}


def _kind(column: pd.Series) -> str:
    """What a column of a piece holds; empty where all is missing."""
    if column.isna().all():
        return ""
    kind = column.dtype.kind
    if kind in "biuf":
        return {"b": "truth", "f": "float"}.get(kind, "whole")
    boolean = pd.api.types.infer_dtype(column, skipna=True) == "boolean"
    return "truth" if boolean else "text"


def _common(first: str, second: str) -> str:
    """What two pieces of a column hold together: what pandas would make of both at once."""
    if first == second or not first or not second:
        return first or second
    return "float" if {first, second} == {"whole", "float"} else "text"


@contextmanager
def _scratch(folder: Path) -> Iterator[IO[bytes]]:
    """A file that nobody else sees, and that is gone once it is neither open nor mapped."""
    with ExitStack() as stack:
        with _writable(folder):
            file = stack.enter_context(TemporaryFile(dir=folder, prefix=".metacadi-"))
        yield file


class _Copy:
    """Rows of a table, put in their places in a file; covariates in memory."""

    def __init__(self, file: IO[bytes], folder: Path, num_rows: Mapping[str, int]) -> None:
        self._file, self._folder, self._num_rows = file, folder, num_rows
        ends = np.cumsum(list(num_rows.values())).tolist()
        self._total = ends[-1]
        self._next = dict(zip(num_rows, [0, *ends[:-1]], strict=True))
        self._cells = Cells(())
        self._columns: dict[str, list[Array]] = {}
        self._places: list[Int[np.ndarray, " some"]] = []

    def add(
        self,
        arrays: Sequence[Array],
        variables: Sequence[str],
        labels: Sequence[str],
        columns: Mapping[str, Any],
    ) -> None:
        """Take in a piece, as `grouped_rows` gives it."""
        if not self._cells.variables:
            first, count = next(iter(self._num_rows.items()))
            as_table(np.empty((count, len(variables))), task=first)  # refuses a table without any
            self._cells = Cells(tuple(variables))
        places = [
            self._write(self._cells.numbers(as_table(rows, task=label), task=label), task=label)
            for label, rows in zip(labels, arrays, strict=True)
        ]
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(as_column(column, name))
        if columns:
            self._places.append(np.concatenate(places))

    def _write(
        self, rows: Float[np.ndarray, "some variable"], *, task: str
    ) -> Int[np.ndarray, " some"]:
        """Put rows behind those of the task that are there; say where they are."""
        start = self._next[task]
        self._next[task] = end = start + len(rows)
        with _writable(self._folder, rows=self._total, width=rows.shape[1]):
            self._file.seek(start * rows.shape[1] * 8)
            self._file.write(np.ascontiguousarray(rows).data)
        return np.arange(start, end)

    def mapped(self) -> Parts:
        """What was added, if it can be used."""
        self._cells.check(self._num_rows)
        names = tuple(self._cells.variables)
        with _writable(self._folder, rows=self._total, width=len(names)):
            self._file.flush()
            shape = (self._total, len(names))
            values = np.memmap(self._file, dtype=np.float64, mode="r", shape=shape)
        columns = None
        if self._columns:
            order = np.argsort(np.concatenate(self._places))
            columns = {name: np.concatenate(c)[order] for name, c in self._columns.items()}
        beside = as_covariates(columns, num_rows=self._total, variables=names)
        return values, _fixed(self._num_rows.values()), names, tuple(self._num_rows), beside


@contextmanager
def _writable(folder: Path, *, rows: int = 1, width: int = 1) -> Iterator[None]:
    """Say of a folder that it cannot hold a file of that size, where it cannot."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cache: expected a folder with room for {rows * width * 8 / 2**30:.2g} GiB, got "
            f"'{error.strerror or error}' at '{folder}'. Pass another one as cache=."
        ) from error


def map_array(values: Any, *, num_rows: Any, variables: Any, tasks: Any, covariates: Any) -> Parts:
    """Check an array of the caller's that is on disk already.

    See `TaskDataset.from_memmap`, of which these are the arguments and errors.
    """
    rows = _opened(values)
    counts = _row_counts(num_rows, total=len(rows))
    task_names = check_names(tasks, what="tasks", count=len(counts), default="task")
    names = check_names(variables, what="variables", count=rows.shape[1], default="X")
    known, cells = dict(zip(task_names, counts.tolist(), strict=True)), Cells(names)
    for name, part in zip(known, np.split(rows, np.cumsum(counts)[:-1]), strict=True):
        for block in blocks(part):
            cells.numbers(block, task=name)
    cells.check(known)
    beside = as_covariates(covariates, num_rows=len(rows), variables=names)
    return rows, counts, names, task_names, beside


def _opened(values: Any) -> Float[np.ndarray, "rows variable"]:
    """The map itself, or that of a .npy file; nobody writes to it through the dataset."""
    if isinstance(values, str | os.PathLike):
        path = checked_path(values, what="values", error=DataError)
        with told_of(path):
            values = np.load(path, mmap_mode="r")
    got = type(values).__name__
    if isinstance(values, np.memmap):
        usable = values.dtype == np.float64 and values.ndim == 2 and values.size > 0
        if usable and values.flags.c_contiguous:
            rows = values[:]
            rows.flags.writeable = False
            return rows
        got = f"{values.dtype} of shape {list(values.shape)}"
    raise DataError(
        f"values: expected a memory map of float64 of shape [rows, variable], row after row, got "
        f"{got}. Write the rows with numpy.save and pass the path, or use from_arrays."
    )


def _row_counts(num_rows: Any, *, total: int) -> Int[np.ndarray, " task"]:
    counts = np.asarray(num_rows)
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 1).any():
        raise DataError(
            f"num_rows: expected a positive whole number for each task, got {num_rows!r:.60}. Pass "
            f"a list such as [100, 80]."
        )
    if counts.sum() != total:
        raise DataError(
            f"num_rows: expected numbers that add up to the {total} rows, got a sum of "
            f"{counts.sum()}. Count the rows of each task."
        )
    return _fixed(counts.tolist())


def _fixed(counts: Iterable[int]) -> Int[np.ndarray, " task"]:
    fixed = np.array([*counts])
    fixed.flags.writeable = False
    return fixed
