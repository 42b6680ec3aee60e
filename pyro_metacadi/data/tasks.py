"""`TaskDataset`: rows measured under several experiments, each with its own number of rows."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Int8

from pyro_metacadi.data.covariates import as_covariates, joined, taken
from pyro_metacadi.data.declared import (
    Names,
    as_known,
    declared,
    joined_known,
    same_known,
    summary,
)
from pyro_metacadi.data.names import check_names, listed, position_of, positions
from pyro_metacadi.data.ondisk import RowsOnDisk
from pyro_metacadi.data.rows import pieces, random_rows
from pyro_metacadi.data.validation import as_numbers, as_table, as_tasks, check_columns
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

if TYPE_CHECKING:
    import pandas

__all__ = ["TaskDataset"]


@dataclass(frozen=True, eq=False, repr=False)
class TaskDataset:
    """Tasks (experiments) over the same variables, in the user's units. Never changes.

    Build one with `from_arrays`, `from_dataframe` or `from_csv`, which check every value, or, of
    more rows than memory holds, with `open` or `from_memmap`.

    Attributes:
        values: All rows, task after task; read-only float64 of shape [rows, variable]. A
            `numpy.memmap` where they stay on disk.
        num_rows: Rows of each task, shape [task].
        variables: Names of the columns.
        tasks: Names of the tasks.
        covariates: What else was measured in every row and no mechanism can change, such as cell
            type, batch or dose: name -> read-only array [rows], of float64 (a quantity) or of
            strings (groups).
        known_targets: What is known of who was hit, see `declare`: read-only int8 of shape
            [task, variable], 1 (hit), 0 (not hit) or -1 (unknown); None if nothing is known.
    """

    values: Float[np.ndarray, "rows variable"]
    num_rows: Int[np.ndarray, " task"]
    variables: tuple[str, ...]
    tasks: tuple[str, ...]
    covariates: Mapping[str, Array] = field(default_factory=lambda: as_covariates(None))
    known_targets: Int8[np.ndarray, "task variable"] | None = None

    @classmethod
    def from_arrays(
        cls,
        arrays: Any,
        *,
        variables: Any = None,
        tasks: Any = None,
        covariates: Any = None,
        known_targets: Any = None,
    ) -> "TaskDataset":
        """Build a dataset from one array for each task.

        Args:
            arrays: Sequence of array-likes of shape [rows, variable], or one of shape
                [task, rows, variable]. Copied to float64. Data frames bring their column names.
            variables: Names of the columns; by default X1, X2, ...
            tasks: Names of the tasks; by default task1, task2, ...
            covariates: Name -> values of all rows, task after task: numbers are quantities, text
                names groups.
            known_targets: Matrix [task, variable] of 1 (hit), 0 (not hit) and -1 (unknown).

        Raises:
            DataError: No tasks, rows or variables; not two-dimensional; unequal columns; values
                that are not finite numbers; the wrong number of names, or one of them twice;
                covariates that are missing, or neither numbers nor text; other known targets.
        """
        parts = as_tasks(arrays)
        task_names = check_names(tasks, what="tasks", count=len(parts), default="task")
        tables = [as_table(rows, task=name) for rows, name in zip(parts, task_names, strict=True)]
        if variables is None:
            variables = getattr(parts[0], "columns", None)
        width = tables[0].shape[1]
        names = check_names(variables, what="variables", count=width, default="X")
        check_columns(parts, tables, tasks=task_names, variables=names)
        values = np.concatenate(as_numbers(tables, tasks=task_names, variables=names))
        num_rows = np.array([len(table) for table in tables])
        values.flags.writeable = num_rows.flags.writeable = False
        beside = as_covariates(covariates, num_rows=len(values), variables=names)
        known = as_known(known_targets, Names(task_names, names))
        return cls(values, num_rows, names, task_names, beside, known)

    @classmethod
    def from_dataframe(
        cls,
        df: Any,
        *,
        task: Any,
        covariates: Sequence[str] = (),
        groups: Sequence[str] = (),
        ignore: Sequence[str] = (),
    ) -> "TaskDataset":
        """Build a dataset from a pandas DataFrame that holds all tasks.

        Args:
            df: One row for each sample; every column that is not named below is a variable.
            task: Name of the column that says which task a row is from. Tasks come in order of
                first appearance; their rows need not be together. Labels become strings.
            covariates: Columns that are no variables of the graph, but that every variable may
                depend on: numbers are quantities, text and categories name groups.
            groups: Further covariates, which name groups even where they are numbers.
            ignore: Columns that are left out, such as identifiers of samples.

        Raises:
            DataError: As `from_arrays`; also a missing column or label.
        """
        from pyro_metacadi.data.frames import grouped_rows

        arrays, variables, labels, beside = grouped_rows(
            df, task=task, covariates=covariates, groups=groups, ignore=ignore
        )
        return cls.from_arrays(arrays, variables=variables, tasks=labels, covariates=beside)

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        task: str,
        covariates: Sequence[str] = (),
        groups: Sequence[str] = (),
        ignore: Sequence[str] = (),
    ) -> "TaskDataset":
        """Build a dataset from a .csv, .tsv (either may end in .gz) or .parquet file with a header.

        Args:
            path: The file; its extension says how it is delimited.
            task: Name of the column that says which task a row is from.
            covariates: As in `from_dataframe`.
            groups: As in `from_dataframe`; labels are read as they are written (``01``).
            ignore: As in `from_dataframe`.

        Raises:
            DataError: As `from_dataframe`; also a file that cannot be read. Names the path.
        """
        from pyro_metacadi.data.readers import read_table

        frame = read_table(path, task=task, groups=groups)
        try:
            return cls.from_dataframe(
                frame, task=task, covariates=covariates, groups=groups, ignore=ignore
            )
        except DataError as error:
            raise DataError(f"file {os.fspath(path)!r}: {error}") from error

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        task: str,
        covariates: Sequence[str] = (),
        groups: Sequence[str] = (),
        ignore: Sequence[str] = (),
        cache: str | os.PathLike[str] | None = None,
    ) -> "TaskDataset":
        """Build the dataset that `from_csv` would, without ever holding all rows in memory.

        The file is read twice, in pieces, and copied to a file without a name, which takes 8 bytes
        a value and is gone once the dataset is. `values` is a map of it, from which fits with
        ``engine="svi"`` read what they need. Covariates are in memory; so is everything that
        methods of this class return.

        Args:
            path: As in `from_csv`, like the next four.
            task: Name of the column that says which task a row is from.
            covariates: As in `from_dataframe`.
            groups: As in `from_dataframe`.
            ignore: As in `from_dataframe`.
            cache: An existing folder for the copy, on a disk (``/tmp`` may be in memory); by
                default that of `path`.

        Raises:
            DataError: As `from_csv`; also a `cache` that cannot be written or lacks room.
        """
        from pyro_metacadi.data.streaming import map_table

        named = {"covariates": covariates, "groups": groups, "ignore": ignore}
        return cls(*map_table(path, task=task, **named, cache=cache))

    @classmethod
    def from_memmap(
        cls,
        values: Any,
        *,
        num_rows: Any,
        variables: Any = None,
        tasks: Any = None,
        covariates: Any = None,
    ) -> "TaskDataset":
        """Build a dataset of rows that are on disk already, and stay there.

        Args:
            values: A `numpy.memmap` of float64 of shape [rows, variable], rows task after task; or
                the path of such a .npy file. It must not change while the dataset is used.
            num_rows: Rows of each task.
            variables: As in `from_arrays`, like the next two.
            tasks: Names of the tasks.
            covariates: Name -> values of all rows.

        Raises:
            DataError: As `from_arrays`; also another kind of array, or other numbers of rows.
        """
        from pyro_metacadi.data.streaming import map_array

        return cls(
            *map_array(
                values, num_rows=num_rows, variables=variables, tasks=tasks, covariates=covariates
            )
        )

    @property
    def on_disk(self) -> bool:
        """Whether the rows are mapped to memory, and read when they are needed."""
        return isinstance(self.values, np.memmap)

    @property
    def arrays(self) -> Sequence[Array]:
        """The rows of each task: read-only float64 arrays of shape [rows, variable]."""
        if self.on_disk:
            return RowsOnDisk.of(self.values, self.num_rows)
        return np.split(self.values, np.cumsum(self.num_rows)[:-1])

    def __len__(self) -> int:
        return len(self.tasks)

    def __iter__(self) -> Iterator["TaskDataset"]:
        return (self[position] for position in range(len(self)))

    def __contains__(self, task: object) -> bool:
        return task in self.tasks

    def __getitem__(self, key: Any) -> "TaskDataset":
        """Return the tasks that `key` names: a name, an int, a slice, a list of these or a mask.

        Consecutive tasks of a dataset on disk stay there; others are copied to memory.

        Raises:
            DataError: An unknown task, a mask of the wrong length, or nothing selected.
        """
        chosen = positions(key, tasks=self.tasks)
        ends, tasks = np.cumsum(self.num_rows), [self.tasks[at] for at in chosen]
        starts = ends - self.num_rows
        if self.on_disk and chosen == [*range(chosen[0], chosen[-1] + 1)]:
            rows = slice(starts[chosen[0]], ends[chosen[-1]])
            counts, beside = self.num_rows[chosen], taken(self.covariates, rows)
            counts.flags.writeable = False
            known = None if self.known_targets is None else self.known_targets[chosen]
            known = as_known(known, Names(tasks, self.variables))
            names = self.variables, tuple(tasks)
            return TaskDataset(self.values[rows], counts, *names, beside, known)
        return self._at([np.arange(starts[at], ends[at]) for at in chosen], tasks=tasks)

    def _at(self, rows: Sequence[Int[np.ndarray, " kept"]], *, tasks: Any) -> "TaskDataset":
        """Return tasks made of these rows.

        Args:
            rows: Of each new task, where its rows are in `values`.
            tasks: Names of the new tasks.
        """
        known = self.known_targets
        if known is not None:
            ends = np.cumsum(self.num_rows)
            known = known[[int(np.searchsorted(ends, kept[0], side="right")) for kept in rows]]
        return TaskDataset.from_arrays(
            [self.values[kept] for kept in rows],
            variables=self.variables,
            tasks=tasks,
            covariates=taken(self.covariates, np.concatenate(rows)),
            known_targets=known,
        )

    @property
    def _row_numbers(self) -> list[Int[np.ndarray, " row"]]:
        """Of each task, where its rows are in `values`."""
        return np.split(np.arange(len(self.values)), np.cumsum(self.num_rows)[:-1])

    def select(self, variables: Any) -> "TaskDataset":
        """Return the dataset with these variables only, in this order.

        Raises:
            DataError: An unknown variable, one twice, or none.
        """
        names = check_names(variables, what="variables")
        columns = [position_of(name, among=self.variables, what="variable") for name in names]
        known = self.known_targets
        return TaskDataset.from_arrays(
            [rows[:, columns] for rows in self.arrays],
            variables=names,
            tasks=self.tasks,
            covariates=self.covariates,
            known_targets=None if known is None else known[:, columns],
        )

    def align(self, variables: Sequence[str]) -> "TaskDataset":
        """Return the dataset with exactly these variables, reordered by name where need be.

        Raises:
            DataError: The sets of names differ; says which are missing and which unknown.
        """
        names = check_names(variables, what="variables")
        if names == self.variables:
            return self
        missing = [repr(name) for name in names if name not in self.variables]
        unknown = [repr(name) for name in self.variables if name not in names]
        if missing or unknown:
            raise DataError(
                f"variables: expected the same {len(names)} names, got "
                f"{listed(missing) or 'none'} missing and {listed(unknown) or 'none'} unknown. "
                f"Rename columns, ignore some when reading, or .select(...) others."
            )
        return self.select(names)

    def concatenate(self, *others: "TaskDataset") -> "TaskDataset":
        """Return the tasks of this dataset, then those of the `others`, over the same variables.

        Raises:
            DataError: Variables or covariates differ (their order may), or two tasks have one name.
        """
        parts = [self, *(other.align(self.variables) for other in others)]
        return TaskDataset.from_arrays(
            [rows for part in parts for rows in part.arrays],
            variables=self.variables,
            tasks=[name for part in parts for name in part.tasks],
            covariates=joined([part.covariates for part in parts]),
            known_targets=joined_known(
                [(part.known_targets, len(part)) for part in parts], len(self.variables)
            ),
        )

    def declare(
        self,
        tasks: Any = slice(None),
        *,
        hit: Sequence[str] = (),
        not_hit: Sequence[str] = (),
        exactly: Sequence[str] | None = None,
    ) -> "TaskDataset":
        """Return the dataset with some targets declared: inference then takes them as known.

        >>> tasks.declare("guide7", hit=["PKA"])          # doctest: +SKIP
        >>> tasks.declare("guide8", exactly=["PKA"])      # doctest: +SKIP
        >>> tasks.declare(not_hit=["age"])                # doctest: +SKIP

        The first leaves off-targets open, the second says that there are none, the third that no
        task hits this variable. Declarations add up.

        Args:
            tasks: The tasks meant, as in ``self[tasks]``; by default all.
            hit: Variables that each of them hit; others may be hit as well.
            not_hit: Variables that none of them hit.
            exactly: All variables that each of them hit, given alone; ``[]`` for none.

        Raises:
            DataError: Unknown tasks or variables, nothing declared, or a variable declared both hit
                and not hit, now or before.
        """
        known = declared(
            self.known_targets,
            Names(self.tasks, self.variables),
            at=positions(tasks, tasks=self.tasks),
            hit=hit,
            not_hit=not_hit,
            exactly=exactly,
        )
        return replace(self, known_targets=known)

    def declare_observational(self, tasks: Any) -> "TaskDataset":
        """Return the dataset with `tasks` declared to hit nothing: ``declare(tasks, exactly=[])``.

        Raises:
            DataError: As `declare`.
        """
        return self.declare(tasks, exactly=[])

    def with_known_targets(self, known_targets: Any) -> "TaskDataset":
        """Return the dataset with these declarations instead of its own.

        Args:
            known_targets: Matrix [task, variable] of 1 (hit), 0 (not hit) and -1 (unknown); None
                forgets all that was declared.

        Raises:
            DataError: Another shape, or other values.
        """
        known = as_known(known_targets, Names(self.tasks, self.variables))
        return replace(self, known_targets=known)

    def split_rows(
        self, rows_per_task: int, *, seed: Any = None, drop_remainder: bool = False
    ) -> "TaskDataset":
        """Cut every task into pieces, tasks of their own named ``"<task>/1"``, ``"<task>/2"``, ...

        Args:
            rows_per_task: Rows of a piece; the last piece of a task may have fewer.
            seed: Whole number or numpy generator that shuffles each task's rows first; by default
                pieces are consecutive rows.
            drop_remainder: Leave out pieces with fewer rows.

        Raises:
            ConfigError: `rows_per_task` is not positive, or `seed` is no seed.
            DataError: `drop_remainder` would leave nothing of a task.
        """
        rows, names = pieces(
            self._row_numbers,
            self.tasks,
            size=rows_per_task,
            seed=seed,
            drop_remainder=drop_remainder,
        )
        return self._at(rows, tasks=names)

    def take_rows(self, n: int, *, seed: Any) -> "TaskDataset":
        """Keep `n` random rows of every task, in their order.

        Args:
            n: Rows to keep of each task.
            seed: Whole number or numpy generator.

        Raises:
            ConfigError: `n` is not positive, or `seed` is no seed.
            DataError: A task has fewer than `n` rows.
        """
        rows = random_rows(self._row_numbers, self.tasks, n=n, seed=seed)
        return self._at(rows, tasks=self.tasks)

    def to_dataframe(self, task: str = "task") -> "pandas.DataFrame":
        """Return all rows as a DataFrame: task names in column `task`, covariates, variables.

        Declared targets are not in it.

        Raises:
            DataError: A variable or covariate has the name `task`.
        """
        from pyro_metacadi.data.frames import joined_frame

        return joined_frame(
            self.values,
            self.num_rows,
            variables=self.variables,
            tasks=self.tasks,
            column=task,
            covariates=self.covariates,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskDataset):
            return NotImplemented
        return (
            (self.tasks, self.variables) == (other.tasks, other.variables)
            and np.array_equal(self.num_rows, other.num_rows)
            and np.array_equal(self.values, other.values)
            and list(self.covariates) == list(other.covariates)
            and all(np.array_equal(a, other.covariates[n]) for n, a in self.covariates.items())
            and same_known(self.known_targets, other.known_targets)
        )

    def __repr__(self) -> str:
        fewest, most = self.num_rows.min(), self.num_rows.max()
        rows = f"{most}" if fewest == most else f"{fewest}-{most}"
        beside = f"; covariates: {listed(self.covariates)}" if self.covariates else ""
        return (
            f"TaskDataset({len(self)} tasks: {listed(self.tasks)}; {len(self.variables)} "
            f"variables: {listed(self.variables)}; {rows} rows a task{beside}"
            f"{summary(self.known_targets)})"
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise DataError(
            "TaskDataset: expected one array, got tasks of unequal size. Use .arrays or .values."
        )

    def __copy__(self) -> "TaskDataset":
        return self  # which never changes

    def __deepcopy__(self, memo: Any) -> "TaskDataset":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.on_disk:
            raise DataError(
                "TaskDataset: expected rows in memory to pickle, got some on disk. Open the file "
                "again where they are needed."
            )
        # Pickles are rebuilt, so that their arrays are read-only as well.
        build = functools.partial(
            TaskDataset.from_arrays,
            variables=self.variables,
            tasks=self.tasks,
            covariates=dict(self.covariates),
            known_targets=self.known_targets,
        )
        return build, (self.arrays,)
