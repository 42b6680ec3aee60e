"""What is asked of interventions, checked: values of variables, causes, contrasts, intervals."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float

from pyro_metacadi.checks import check_seed
from pyro_metacadi.data.names import listed, position_of
from pyro_metacadi.data.ondisk import blocks
from pyro_metacadi.errors import ConfigError, MetaCaDIWarning
from pyro_metacadi.inference.surroundings import Trained
from pyro_metacadi.inference.user_units import lowest
from pyro_metacadi.typing import Array

__all__ = [
    "Held",
    "Options",
    "check_causes",
    "check_contrast",
    "warn_of_always_hit",
    "warn_of_far_surroundings",
]


LEAST_FREE = 0.5
"""Training tasks, by their probabilities, that must have left a variable alone."""


@dataclass(frozen=True)
class Options:
    """What predictions and effects have in common; see `Interventions.predict`.

    Raises:
        ConfigError: `seed` or `interval` is out of range.
    """

    seed: int = 0
    interval: float = 0.9
    covariates: Any = None
    total: Any = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        share = self.interval
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 < float(share) < 1:
            raise ConfigError(
                f"interval: expected a number between 0 and 1, got {share!r}. Try 0.9."
            )

    def summary(
        self, draws: Array, dims: Sequence[str], *, over: tuple[int, ...]
    ) -> dict[str, tuple[tuple[str, ...], Array]]:
        """Mean and interval of draws over some axes, as variables of a dataset."""
        tail = (1 - self.interval) / 2
        lower, upper = np.quantile(draws, [tail, 1 - tail], axis=over)
        parts = {"mean": draws.mean(axis=over), "lower": lower, "upper": upper}
        return {name: (tuple(dims), values) for name, values in parts.items()}

    @property
    def attrs(self) -> dict[str, float]:
        """What a dataset says of how it was made."""
        return {"interval": float(self.interval), "seed": int(self.seed)}


@dataclass(frozen=True, eq=False)
class Held:
    """Variables held at values, in one setting or in several.

    Attributes:
        values: In the user's units; NaN where a variable is free, in all settings.
        is_scan: Whether several settings were asked for, rather than a single one.
    """

    values: Float[np.ndarray, "setting variable"]
    is_scan: bool

    @classmethod
    def of(cls, do: Any, trained: Trained) -> "Held":
        """Those that a user asks for.

        Raises:
            DataError: A variable is unknown.
            ConfigError: `do` is no mapping of variables to values that the model has units for.

        Warns:
            MetaCaDIWarning: A value is beyond all training rows (three calls below the user's).
        """
        variables = trained.tasks.variables
        if do is None:
            return cls(np.full((1, len(variables)), np.nan), is_scan=False)
        if not isinstance(do, Mapping) or not do:
            raise ConfigError(
                f"do: expected a dict such as {{{variables[0]!r}: 1.0}}, got {do!r}. Pass None for "
                f"the system as it is."
            )
        given = {
            position_of(name, among=variables, what="do"): _numbers(name, value, trained)
            for name, value in do.items()
        }
        lengths = {len(values) for values in given.values() if values.ndim}
        if len(lengths) > 1:
            raise ConfigError(
                f"do: expected as many values of each variable, got {sorted(lengths)}. Pass "
                f"numbers, and arrays of one length."
            )
        held = np.full((lengths.pop() if lengths else 1, len(variables)), np.nan)
        for at, values in given.items():
            held[:, at] = values
        _warn_of_extrapolation(held, trained)
        return cls(held, is_scan=any(values.ndim for values in given.values()))

    @property
    def columns(self) -> list[int]:
        """The variables that are held."""
        return np.flatnonzero(~np.isnan(self.values[0])).tolist()


def check_causes(causes: Any, variables: Sequence[str]) -> list[int]:
    """Positions of the variables asked for, or of all.

    Raises:
        DataError: One is unknown.
        ConfigError: It is no list of variables.
    """
    if causes is None:
        return list(range(len(variables)))
    if isinstance(causes, str) or not isinstance(causes, Sequence) or not len(causes):
        raise ConfigError(
            f"causes: expected a list of variables, got {causes!r}. Pass names, or None for all."
        )
    return [position_of(name, among=variables, what="causes") for name in causes]


def check_contrast(contrast: Any) -> tuple[float, float]:
    """Two different numbers.

    Raises:
        ConfigError: It is something else.
    """
    pair = isinstance(contrast, Sequence) and not isinstance(contrast, str) and len(contrast) == 2
    numbers = pair and all(
        isinstance(step, Real) and not isinstance(step, bool) and math.isfinite(step)
        for step in contrast
    )
    if not numbers or contrast[0] == contrast[1]:
        raise ConfigError(
            f"contrast: expected two different numbers of standard deviations from the mean, got "
            f"{contrast!r}. Try (0.0, 1.0)."
        )
    return float(contrast[0]), float(contrast[1])


def warn_of_always_hit(trained: Trained, *, drawn: Sequence[int] | None = None) -> None:
    """Warn of variables whose own mechanism no training task shows (two calls below the user's).

    Args:
        trained: The training tasks; nothing is asked of those on disk.
        drawn: Variables that are drawn from their mechanism; None for all.
    """
    if trained.tasks.on_disk:  # judging all would take as long as fitting to them
        return
    names, free = trained.tasks.variables, (1 - trained.target_probs()).sum(axis=0)
    found = [
        repr(names[at])
        for at in (range(len(names)) if drawn is None else drawn)
        if free[at] < LEAST_FREE
    ]
    if found:
        warnings.warn(
            f"mechanisms: expected variables that some training task left alone, got "
            f"{listed(found)}, which every task seems to have hit. What is predicted of them is a "
            f"guess: declare observational tasks, or hold them.",
            MetaCaDIWarning,
            stacklevel=3,
        )


def warn_of_far_surroundings(options: Options, trained: Trained) -> None:
    """Warn of covariates and totals beyond all training rows (two calls below the user's)."""
    seen = trained.tasks.covariates
    given = [(name, value, seen[name]) for name, value in (options.covariates or {}).items()]
    if options.total is not None:
        totals = np.concatenate([block.sum(axis=1) for block in blocks(trained.tasks.values)])
        given.append(("total", options.total, totals))
    found = [
        f"{value:g} at {name!r} ({column.min():g} to {column.max():g})"
        for name, value, column in given
        if column.dtype.kind in "iuf" and not column.min() <= value <= column.max()
    ]
    if found:
        warnings.warn(
            f"covariates, total: expected values between the least and the largest of the training "
            f"rows, got {listed(found)}. Beyond these, predictions are guesses.",
            MetaCaDIWarning,
            stacklevel=3,
        )


def _numbers(name: str, value: Any, trained: Trained) -> Float[np.ndarray, "*setting"]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        array = np.array(None)
    numeric = array.dtype.kind in "iuf" and array.ndim <= 1 and array.size > 0
    if not numeric or not np.isfinite(array).all():
        raise ConfigError(
            f"do: expected a finite number or a list of some at {name!r}, got {value!r}. Pass "
            f"values in the units of the data."
        )
    least = lowest(trained.units)
    if array.min() < least:
        raise ConfigError(
            f"do: expected values of at least {least:g} at {name!r}, which the model has units "
            f"for, got {array.min():g}. Raise them."
        )
    return array.astype(float)


def _warn_of_extrapolation(held: Float[np.ndarray, "setting variable"], trained: Trained) -> None:
    """Mechanisms know nothing of values that no training row comes near."""
    every = [(block.min(axis=0), block.max(axis=0)) for block in blocks(trained.tasks.values)]
    low, high = np.min([lo for lo, _ in every], axis=0), np.max([hi for _, hi in every], axis=0)
    beyond = np.maximum(low - held, held - high)  # NaN where nothing is held
    out = [
        f"{held[np.argmax(beyond[:, at]), at]:g} at {trained.tasks.variables[at]!r} "
        f"({low[at]:g} to {high[at]:g})"
        for at in np.flatnonzero((beyond > 0).any(axis=0))
    ]
    if out:
        warnings.warn(
            f"do: expected values between the least and the largest of the training rows, got "
            f"{listed(out)}. Beyond these, effects are guesses.",
            MetaCaDIWarning,
            stacklevel=4,
        )
