"""What every simulator asks of its arguments, and the random streams that it draws from."""

import hashlib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_metacadi._arrays import as_numeric
from pyro_metacadi.errors import ConfigError, DataError

__all__ = [
    "check_choice",
    "check_count",
    "check_number",
    "check_rows",
    "check_targets",
    "draw_targets",
    "per_task",
    "random_stream",
]


def random_stream(seed: Any, name: str) -> torch.Generator:
    """Return a generator of its own for each `seed` and purpose `name`.

    One seed serves for a world and for new tasks of it. If both drew the same numbers, a new task's
    targets would depend on the graph.

    Raises:
        ConfigError: `seed` is not a non-negative integer.
    """
    check_count("seed", seed, minimum=0)
    digest = hashlib.sha256(f"{name}:{int(seed)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def check_count(what: str, value: Any, *, minimum: int = 1) -> int:
    """Return `value` if it is an integer of at least `minimum`, else raise `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise ConfigError(
            f"{what}: expected an integer of at least {minimum}, got {value!r}. "
            f"Pass {minimum} or more."
        )
    return int(value)


def check_number(what: str, value: Any, *, sign: Literal["any", "positive"] = "any") -> float:
    """Return `value` if it is finite (and positive, if so asked), else raise `ConfigError`.

    Finite are numbers up to 1e30 in size: beyond, what is computed from them overflows.
    """
    real = isinstance(value, int | float | np.integer | np.floating)
    if not (real and -1e30 <= value <= 1e30) or (sign == "positive" and value <= 0):
        rule = "a positive number" if sign == "positive" else "a finite number"
        raise ConfigError(f"{what}: expected {rule}, got {value!r}. Pass one up to 1e30.")
    return float(value)


def check_choice(what: str, value: Any, *, known: Sequence[str]) -> str:
    """Return `value` if it is among the `known` names, else raise `ConfigError` listing them."""
    if value not in known:
        names = ", ".join(repr(name) for name in known)
        raise ConfigError(f"{what}: expected one of {names}, got {value!r}. Pass one of these.")
    return value


def per_task(
    what: str, value: Any, *, num_tasks: int, minimum: int, maximum: float = math.inf
) -> list[int]:
    """Spell out one integer per task from one for all or a sequence.

    Raises:
        ConfigError: The sequence has another length than `num_tasks`, or an entry is out of range.
    """
    single = isinstance(value, str) or not isinstance(value, Iterable)
    single = single or getattr(value, "ndim", None) == 0
    counts = [value] * num_tasks if single else list(value)
    if len(counts) != num_tasks:
        raise ConfigError(
            f"{what}: expected one integer, or one for each of the {num_tasks} tasks, got "
            f"{len(counts)}. Pass as many as there are tasks."
        )
    for position, count in enumerate(counts):
        check_count(f"{what} of task {position + 1}", count, minimum=minimum)
        if count > maximum:
            raise ConfigError(
                f"{what} of task {position + 1}: expected at most the number of variables, "
                f"{maximum}, got {count}. Ask for fewer."
            )
    return [int(count) for count in counts]


def draw_targets(
    targets_per_task: Sequence[int], *, num_variables: int, generator: torch.Generator
) -> Int[Tensor, "task variable"]:
    """Draw, for each task, so many distinct targets uniformly; 0 leaves it observational."""
    noise = torch.rand(len(targets_per_task), num_variables, generator=generator)
    rank = noise.argsort(dim=1).argsort(dim=1)
    return (rank < torch.tensor(targets_per_task).unsqueeze(1)).long()


def check_rows(rows: Any, *, num_variables: int) -> Float[Tensor, "sample variable"]:
    """Return `rows` as float64 if they are finite, one column per variable; else `DataError`."""
    table = as_numeric(rows, what="rows", error=DataError).astype(np.float64)
    if table.ndim != 2 or table.shape[1] != num_variables:
        raise DataError(
            f"rows: expected shape [sample, {num_variables}], one column per variable, got "
            f"{list(table.shape)}. Pass one row as rows[None]."
        )
    if not np.isfinite(table).all():
        raise DataError("rows: expected finite numbers, got NaN or infinity. Leave such rows out.")
    return torch.tensor(table)


def check_targets(targets: Any, *, num_variables: int) -> Int[Tensor, " variable"]:
    """Return one task's `targets` if they are 0 or 1, one per variable; else `DataError`."""
    array = as_numeric(targets, what="intervention_targets", error=DataError)
    if array.shape != (num_variables,) or not np.isin(array, (0, 1)).all():
        raise DataError(
            f"intervention_targets: expected {num_variables} entries 0 or 1, shape "
            f"[{num_variables}], got {array.tolist()}. Pass one row of intervention_targets."
        )
    return torch.tensor(array.astype(np.int64))
