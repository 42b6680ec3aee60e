"""What `sergio` asks of its arguments, and what they mean in steps, factors and matrices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.simulators._arguments import check_choice, check_number
from pyro_metacadi.simulators.langevin import CHUNK_ENTRIES, Langevin

__all__ = [
    "HALF_RESPONSES",
    "Dynamics",
    "checked_device",
    "interval",
    "off_target_matrix",
    "pair",
    "production_factor",
]

# What an intervention multiplies the production of its targets by, unless the user says otherwise.
FACTORS = {"knock_out": 0.0, "knock_down": 0.5, "over_expression": 2.0}
HALF_RESPONSES = ("wildtype", "per_run")
SNAPSHOTS = ("independent", "trajectory")


@dataclass(frozen=True)
class Dynamics:
    """How long chains run."""

    langevin: Langevin
    decay: float | int
    snapshots: str
    burn_in: float | int | None

    def __post_init__(self) -> None:
        check_number("decay", self.decay, sign="positive")
        check_choice("snapshots", self.snapshots, known=SNAPSHOTS)
        if self.langevin.dt * self.decay >= 1:
            raise ConfigError(
                f"dt: expected less than 1 / decay = {1 / self.decay:g}, for a stable step, got "
                f"{self.langevin.dt}. Pass 0.01 / decay or so."
            )
        if self.burn_in is not None and check_number("burn_in", self.burn_in) < 0:
            raise ConfigError(
                f"burn_in: expected at least 0, got {self.burn_in}. Leave it out for 6 / decay."
            )

    @property
    def steps_to_steady_state(self) -> int:
        """After six relaxation times the start is forgotten, but for 1 / 400 of its effect."""
        return math.ceil(6 / (self.decay * self.langevin.dt))

    @property
    def steps_before_reading(self) -> int:
        """Steps of burn-in."""
        if self.burn_in is not None:
            return math.ceil(self.burn_in / self.langevin.dt)
        return 0 if self.snapshots == "trajectory" else self.steps_to_steady_state


def production_factor(intervention: str, factor: float | int | None) -> float:
    """Return what `intervention` multiplies production by, `factor` if the user gave one."""
    check_choice("intervention", intervention, known=tuple(FACTORS))
    if factor is None:
        return FACTORS[intervention]
    if intervention == "knock_out":
        raise ConfigError(
            f"factor: expected None for knock_out, which stops production, got {factor}. Use "
            'intervention="knock_down" for a part of it.'
        )
    low, high = (0.0, 1.0) if intervention == "knock_down" else (1.0, math.inf)
    if not low < check_number("factor", factor) < high:
        raise ConfigError(
            f"factor: expected between {low:g} and {high:g} for {intervention}, got {factor}. "
            f"Pass such as {FACTORS[intervention]:g}."
        )
    return float(factor)


def interval(what: str, limits: Any) -> tuple[float, float]:
    """Return two positive numbers, the smaller first, else raise `ConfigError`."""
    low, high = pair(what, limits)
    if low > high:
        raise ConfigError(
            f"{what}: expected the lower limit first, got ({low:g}, {high:g}). Swap them."
        )
    return low, high


def pair(what: str, values: Any) -> tuple[float, float]:
    """Return two positive numbers, else raise `ConfigError`."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        raise ConfigError(f"{what}: expected two numbers, got {values!r}. Pass (1.0, 3.0) or such.")
    first, second = (check_number(what, value, sign="positive") for value in values)
    return first, second


def off_target_matrix(
    off_targets: Any, *, variables: Sequence[str]
) -> Bool[Tensor, "variable variable"]:
    """Return True where hitting the gene of the row hits the gene of the column too."""
    matrix = torch.zeros(len(variables), len(variables), dtype=torch.bool)
    if off_targets is None:
        return matrix
    lists = off_targets.values() if isinstance(off_targets, Mapping) else [None]
    if not all(isinstance(genes, Sequence) for genes in lists):
        raise ConfigError(
            f"off_targets: expected a mapping from a gene to a list of genes, got {off_targets!r}. "
            'Pass {"X1": ["X4", "X7"]} or such.'
        )
    for intended, others in off_targets.items():
        row = _position(intended, variables)
        for other in [others] if isinstance(others, str) else others:
            matrix[row, _position(other, variables)] = True
    return matrix


def _position(gene: Any, variables: Sequence[str]) -> int:
    if gene not in variables:
        raise ConfigError(
            f"off_targets: expected genes of the graph, {variables[0]} to {variables[-1]}, got "
            f"{gene!r}. Use the names of the variables."
        )
    return variables.index(gene)


def checked_device(device: str | torch.device) -> torch.device:
    """Return the device if it can be used here, else raise `ConfigError`."""
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"device: expected 'cpu' or 'cuda', got {device!r}. Use device='cpu'."
        ) from error
    if chosen.type not in CHUNK_ENTRIES:
        raise ConfigError(f"device: expected 'cpu' or 'cuda', got {device!r}. Use device='cpu'.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: expected one that exists, got '{device}'. Use device='cpu'.")
    return chosen
