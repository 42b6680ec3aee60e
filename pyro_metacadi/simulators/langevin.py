"""The chemical Langevin equation of a gene network, for many chains at once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.simulators._arguments import check_choice, check_number
from pyro_metacadi.simulators.cells import Schedule
from pyro_metacadi.simulators.grn import GeneNetwork, Regulation

__all__ = ["NOISE_TYPES", "Langevin", "expression_of_cells"]

# Half the bytes of float64, and its rounding error is far below the noise of a step.
DTYPE = torch.float32

# Entries of one tensor [variable, chain]. On a CPU a chunk stays in the cache; a GPU wants it
# large. Some ten tensors of this size are alive at once.
CHUNK_ENTRIES = {"cpu": 2**17, "cuda": 2**26}

# Standard deviation of the noise per square root of time. The two independent parts of dpd, with
# variances P and decay x, are drawn as one normal with their sum.
NOISE_TYPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dpd": lambda production, loss: (production + loss).sqrt_(),
    "spd": lambda production, loss: production.sqrt() + loss.sqrt(),
    "sp": lambda production, loss: production.sqrt(),
}


@dataclass(frozen=True)
class Langevin:
    """x(t + dt) = max(0, x + dt (P - decay x) + sqrt(dt) noise_scale s e), with e ~ N(0, 1).

    Attributes:
        noise: What s is: ``"dpd"`` sqrt(P + decay x), independent noise of production and decay;
            ``"spd"`` sqrt(P) + sqrt(decay x), the same e in both; ``"sp"`` sqrt(P).
        noise_scale: Not negative.
        dt: Length of a step, in the units of time of the decay.
    """

    noise: str
    noise_scale: float
    dt: float

    def __post_init__(self) -> None:
        check_choice("noise", self.noise, known=tuple(NOISE_TYPES))
        if check_number("noise_scale", self.noise_scale) < 0:
            raise ConfigError(
                f"noise_scale: expected at least 0, got {self.noise_scale}. Pass 0 for no noise."
            )
        check_number("dt", self.dt, sign="positive")

    def step(
        self,
        expression: Float[Tensor, "variable chain"],
        regulation: Regulation,
        *,
        decay: float,
        generator: torch.Generator,
    ) -> Float[Tensor, "variable chain"]:
        """Return the expression one step later."""
        production = regulation.production(expression)
        loss = decay * expression
        noise = torch.empty_like(expression).normal_(generator=generator)
        noise *= NOISE_TYPES[self.noise](production, loss)
        drift = production.sub_(loss)
        moved = expression.add(drift, alpha=self.dt)
        return moved.add_(noise, alpha=self.noise_scale * self.dt**0.5).clamp_(min=0)


def expression_of_cells(
    network: GeneNetwork,
    langevin: Langevin,
    *,
    schedule: Schedule,
    factor: Float[Tensor, "task variable"],
    half_response: Float[Tensor, "task variable"],
    regulator_means: Float[Tensor, "task cell_type variable"] | None,
    seed: int,
    device: torch.device,
) -> Float[Tensor, "cell variable"]:
    """Run all chains and read the cells; memory grows with the cells, not with the steps.

    Args:
        network: Production and decay.
        langevin: The dynamics.
        schedule: Which chains are run, how long, and when cells are read.
        factor: What multiplies the production of each gene in each task.
        half_response: Of each gene as a regulator, in each task.
        regulator_means: Genes start where production and decay balance, at this expression of
            their regulators; None for the fixed point without noise.
        seed: Same seed, same noise.
        device: Where to compute; the result is on the CPU.
    """
    size = len(network.adjacency)
    cells = torch.empty(len(schedule.chain), size, dtype=torch.float64)
    chains_at_once = max(1, CHUNK_ENTRIES[device.type] // size)
    for number, part in enumerate(schedule.chunks(chains_at_once)):
        regulation = network.regulation(
            cell_type=part.cell_type,
            factor=factor[part.task],
            half_response=half_response[part.task],
            dtype=DTYPE,
            device=device,
        )
        generator = torch.Generator(device).manual_seed(seed + number)
        means = None if regulator_means is None else regulator_means[part.task, part.cell_type]
        expression = _start(network, regulation, regulator_means=means)
        _read(expression, step=0, schedule=part, cells=cells)
        for step in range(1, part.num_steps + 1):
            expression = langevin.step(
                expression, regulation, decay=network.decay, generator=generator
            )
            _read(expression, step=step, schedule=part, cells=cells)
    return cells


def _start(
    network: GeneNetwork,
    regulation: Regulation,
    *,
    regulator_means: Float[Tensor, "chain variable"] | None,
) -> Float[Tensor, "variable chain"]:
    """Return the expression at which production and decay balance."""
    if regulator_means is None:
        return regulation.fixed_point(network.decay, num_levels=network.num_levels)
    means = regulator_means.T.contiguous().to(regulation.baseline)
    return regulation.production(means) / network.decay


def _read(
    expression: Float[Tensor, "variable chain"],
    *,
    step: int,
    schedule: Schedule,
    cells: Float[Tensor, "cell variable"],
) -> None:
    """Write what is read after `step` steps into its place in `cells`."""
    for delay in schedule.delay.unique().tolist():
        read = schedule.cells_at(step - delay)
        if len(read):
            genes = torch.nonzero(schedule.delay == delay)
            values = expression[genes, schedule.chain[read]]
            cells[schedule.position[read], genes] = values.cpu().double()
