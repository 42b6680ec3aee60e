"""Checks of the options that `fit`, `adapt` and a posterior's methods take."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import torch

from pyro_metacadi.errors import ConfigError

__all__ = [
    "NUM_SEEDS",
    "check_callbacks",
    "check_count",
    "check_device",
    "check_seed",
    "check_threshold",
]

NUM_SEEDS = 2**64


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


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
