"""Several processes that fit one model, each a part of the work: ``torchrun``'s ranks.

Without `joined` there is one process, and all of this does nothing. With it, every process runs the
same code; what is costly is split by `own_part` and put together by `gathered`, and what must not
differ between machines in its last digit is `agreed` upon.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import distributed

from pyro_metacadi.errors import MetaCaDIError

__all__ = ["agreed", "gathered", "joined", "own_part", "rank", "world_size"]

T = TypeVar("T")


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if _is_joined() else 1


def rank() -> int:
    """Which of the processes this is, from 0."""
    return distributed.get_rank() if _is_joined() else 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that ``torchrun`` started, if it started any, until the block ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def own_part(items: Sequence[T]) -> Sequence[T]:
    """What this process is to do of what all are to do."""
    return items[rank() :: world_size()]


def gathered(found: dict[Any, T]) -> dict[Any, T]:
    """What all processes found, each its part.

    Raises:
        MetaCaDIError: Another process has ended.
    """
    if world_size() == 1:
        return found
    parts: list[Any] = [None] * world_size()
    _together(lambda: distributed.all_gather_object(parts, found))
    return {key: value for part in parts for key, value in part.items()}


def agreed(value: T) -> T:
    """The first process's value.

    Raises:
        MetaCaDIError: Another process has ended.
    """
    if world_size() == 1:
        return value
    held = [value]
    _together(lambda: distributed.broadcast_object_list(held, src=0))
    return held[0]


def _together(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:
        raise MetaCaDIError(
            f"processes: expected all {world_size()} to go on, got '{str(error).splitlines()[0]}'. "
            f"One of them has ended; look at its message, and start them again."
        ) from error


def _is_joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
