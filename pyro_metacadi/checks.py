"""Checks of the options that `fit`, `adapt` and a posterior's methods take."""

import math
import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch

from pyro_metacadi.errors import ConfigError

__all__ = [
    "NUM_SEEDS",
    "check_callbacks",
    "check_count",
    "check_device",
    "check_memory",
    "check_seed",
    "check_threshold",
    "refuse_labels",
]

NUM_SEEDS = 2**64

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def check_count(what: str, value: Any, *, minimum: int = 1) -> int:
    """Return `value` as an int.

    Raises:
        ConfigError: It is no whole number (True and 2.0 are none), or less than `minimum`.
    """
    whole = _is_whole(value)
    if not whole or value < minimum:
        rule = f"at least {minimum}" if whole else "a whole number"
        raise ConfigError(f"{what}: expected {rule}, got {value!r}. Pass {minimum} or more.")
    return int(value)


def check_seed(seed: Any) -> int:
    """Return `seed` as an int.

    Raises:
        ConfigError: It is not a whole number from 0 to 2**64 - 1.
    """
    if not _is_whole(seed) or not 0 <= seed < NUM_SEEDS:
        raise ConfigError(
            f"seed: expected a whole number from 0 to 2**64 - 1, got {seed!r}. Pass one, such as 0."
        )
    return int(seed)


def check_threshold(threshold: Any) -> float:
    """Return `threshold` as a float.

    Raises:
        ConfigError: It is not a number above 0 and at most 1.
    """
    if not isinstance(threshold, Real) or not 0 < float(threshold) <= 1:
        raise ConfigError(
            f"threshold: expected a number above 0 and at most 1, got {threshold!r}. Try 0.5."
        )
    return float(threshold)


def check_callbacks(callbacks: Any) -> tuple[Callable[..., Any], ...]:
    """Return `callbacks` as a tuple.

    Raises:
        ConfigError: They are not a sequence of functions.
    """
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise ConfigError(
            f"callbacks: expected a list of functions of (step, terms), got {callbacks!r}. "
            f"Put a single function into a list."
        )
    return tuple(callbacks)


def check_device(device: Any) -> torch.device:
    """Return the device that a user names; ``"auto"`` is CUDA where there is any.

    Raises:
        ConfigError: It is neither the CPU nor a CUDA device, or does not exist.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device) if isinstance(device, str | torch.device) else None
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"device: expected 'auto', 'cpu' or 'cuda', got {device!r}. Use device='auto'."
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: expected one that exists, got '{device}'. Use device='cpu'.")
    return chosen


def check_memory(memory_budget: Any, device: torch.device) -> int:
    """Return a number of bytes from one, or from text such as ``"4 GB"``; None is half of all.

    Raises:
        ConfigError: It is neither, or not positive.
    """
    if memory_budget is None:
        return _memory_of(device) // 2
    amount, unit = memory_budget, ""
    if isinstance(memory_budget, str):
        text = memory_budget.strip()
        unit = text.lstrip("0123456789.").strip()
        amount = _number(text[: len(text) - len(unit)])
    known = isinstance(amount, Real) and not isinstance(amount, bool) and unit.upper() in UNITS
    if not known or not 1 <= amount * UNITS[unit.upper()] < math.inf:
        raise ConfigError(
            f"memory_budget: expected a number of bytes or text such as '4 GB', got "
            f"{memory_budget!r}. Leave it out for half of the memory there is."
        )
    return int(amount * UNITS[unit.upper()])


def _memory_of(device: torch.device) -> int:
    """This process's share, of the GPU or of what the machine or its container has."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if CONTAINER_LIMIT.exists():
        limit = CONTAINER_LIMIT.read_text().strip()  # "max" is none
        size = min(size, int(limit)) if limit.isdigit() else size
    return size // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's processes here


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def refuse_labels(what: str, value: Any) -> None:
    """For matrices that are read by position.

    Raises:
        ConfigError: `value` has labels, whose order may be another than that of the data.
    """
    if hasattr(value, "columns") or hasattr(value, "coords"):
        raise ConfigError(
            f"{what}: expected a plain matrix [parent, child] in the order of the variables, "
            f"got a labelled {type(value).__name__}. Pass its values in this order, for example "
            f"table.loc[names, names].to_numpy()."
        )
