"""How a world came about, so that it can be saved as a call and made once more."""

import functools
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

__all__ = ["Origin", "records_origin"]

P = ParamSpec("P")
W = TypeVar("W")


@dataclass(frozen=True)
class Origin:
    """The call that made a world: same call, same world.

    Attributes:
        simulator: Name of the function in `pyro_metacadi.simulators`.
        arguments: All its arguments, the defaults too, as JSON has them.
        new_tasks: Arguments of `World.sample_tasks`, if the tasks are from there.
    """

    simulator: str
    arguments: Mapping[str, Any]
    new_tasks: Mapping[str, Any] | None = None

    def with_new_tasks(self, arguments: Mapping[str, Any]) -> "Origin":
        """Return the origin of tasks drawn by `World.sample_tasks` with these arguments."""
        return replace(self, new_tasks=_plain(arguments))


def records_origin(simulate: Callable[P, W]) -> Callable[P, W]:
    """Let the worlds that `simulate` returns remember its name and arguments."""
    signature = inspect.signature(simulate)

    @functools.wraps(simulate)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> W:
        world = cast(Any, simulate(*args, **kwargs))
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        return replace(world, origin=Origin(simulate.__name__, _plain(call.arguments)))

    return recorded


def _plain(value: Any) -> Any:
    """Copy to what JSON knows: arrays become lists, and odd objects their text (``cuda:0``)."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    return [_plain(entry) for entry in value] if isinstance(value, Iterable) else str(value)
