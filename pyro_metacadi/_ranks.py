"""Several processes that fit one model, each a part of the work: ``torchrun``'s ranks.

Without `joined` there is one process, and all of this does nothing. With it, every process runs the
same code; what is costly is split by `own_part` and put together by `gathered`, and what must not
differ between machines in its last digit is `agreed` upon.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import distributed

from pyro_metacadi.errors import MetaCaDIError

__all__ = ["agreed", "gathered", "joined", "own_part", "rank", "together", "world_size"]

T = TypeVar("T")

LOST = ("onnection", "gloo", "NCCL", "peer")
"""In messages of exchanges that another process does not take part in any more."""


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
    before = signal.signal(signal.SIGTERM, _told_to_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
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
    with together():
        distributed.all_gather_object(parts, found)
    return {key: value for part in parts for key, value in part.items()}


def agreed(value: T) -> T:
    """The first process's value.

    Raises:
        MetaCaDIError: Another process has ended.
    """
    if world_size() == 1:
        return value
    held = [value]
    with together():
        distributed.broadcast_object_list(held, src=0)
    return held[0]


@contextmanager
def together() -> Iterator[None]:
    """Say that another process has ended, if that is why the block fails.

    Raises:
        MetaCaDIError: Another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not any(word in str(error) for word in LOST):
            raise
        raise _ended(str(error).splitlines()[0]) from error


def _ended(got: str) -> MetaCaDIError:
    return MetaCaDIError(
        f"processes: expected all {world_size()} to go on, got '{got}'. One of them has ended; "
        f"look at its message, and start them again. Nothing was written."
    )


def _told_to_stop(number: int, frame: object) -> None:
    """What ``torchrun`` does to the processes that are left, if one has ended."""
    raise _ended(signal.Signals(number).name)


def _is_joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
