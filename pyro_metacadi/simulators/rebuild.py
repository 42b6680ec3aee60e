"""From the files of a saved world back to the world: the call is made once more."""

import inspect
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from pyro_metacadi import __version__, simulators
from pyro_metacadi.errors import ConfigError, MetaCaDIError, MetaCaDIWarning
from pyro_metacadi.simulators.storage import GRAPH, SavedWorld

__all__ = ["TablesOnly", "rebuilt_world"]


@dataclass(frozen=True, eq=False)
class TablesOnly:
    """Stands for the system of a world of which only the tables are known.

    Attributes:
        adjacency: ``adjacency[i, j] = 1`` means X_i -> X_j.
    """

    adjacency: Int[Tensor, "parent child"]

    def for_tasks(self, num_tasks: int, *, generator: torch.Generator) -> "TablesOnly":
        """Raise `ConfigError`: there is nothing to draw from."""
        raise ConfigError(
            "sample_tasks: expected a world with its system, got the tables of one that could not "
            "be made again. Simulate a new world."
        )

    def sample(self, *_: Any, **__: Any) -> list[Tensor]:
        """Raise `ConfigError`: there is nothing to draw from."""
        raise ConfigError("sample: expected a system, got tables only. Simulate a new world.")


def rebuilt_world(saved: SavedWorld) -> Any:
    """Make the world again; None, with a warning, if that makes no world or another one."""
    try:
        return _rebuilt(saved)
    except (MetaCaDIError, _NotRebuilt) as error:
        warnings.warn(
            f"world: expected a call that makes its tasks again, got none: {error} The tables are "
            "loaded. Simulate a new world for sample_tasks and log_prob.",
            MetaCaDIWarning,
            stacklevel=3,  # the line that called World.load
        )
        return None


class _NotRebuilt(Exception):
    """The saved call does not lead back to the saved tables; the message says why."""


def _rebuilt(saved: SavedWorld) -> Any:
    if saved.origin is None:
        raise _NotRebuilt("it was put together by hand.")
    simulate: Any = getattr(simulators, saved.origin.simulator, None)
    if not hasattr(simulate, "__wrapped__"):  # not one that `records_origin` marked
        raise _NotRebuilt(f"there is no simulator {saved.origin.simulator!r}.")
    arguments = dict(saved.origin.arguments)
    if arguments.get("graph") == GRAPH:
        arguments["graph"] = saved.adjacency
    world = simulate(**_accepted(simulate, arguments))
    if saved.origin.new_tasks is not None:
        world = world.sample_tasks(**_accepted(world.sample_tasks, saved.origin.new_tasks))
    if not _agree(saved, world):
        raise _NotRebuilt(
            f"the tables were changed, or made by another version ({saved.version}, this is "
            f"{__version__})."
        )
    return world


def _agree(saved: SavedWorld, world: Any) -> bool:
    """Whether the truth is the same, and all rows to the rounding of another processor."""
    return (
        np.array_equal(world.adjacency, saved.adjacency)
        and np.array_equal(world.intervention_targets, saved.intervention_targets)
        and np.array_equal(world.tasks.num_rows, saved.tasks.num_rows)
        and np.allclose(world.tasks.values, saved.tasks.values, rtol=1e-6, atol=1e-9)
    )


def _accepted(function: Any, arguments: Any) -> dict[str, Any]:
    """Return `arguments` as keywords, lists as tuples, if `function` takes them."""
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise _NotRebuilt(f"its arguments do not fit ({error}).") from error
    return {name: _as_tuple(value) for name, value in arguments.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
