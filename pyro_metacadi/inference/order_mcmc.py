"""Markov chains over orders, with the parent sets drawn given the order.

Given an order, sums over parent sets are lookups in zeta-transformed score tables, so that a chain
moves in the small and well connected space of orders; the graph follows exactly.

Source: Friedman and Koller 2003; Kuipers and Moffa 2017 (restricted candidates, relocation by Gibbs
sampling over all positions); Geyer 1991 (chains at several temperatures).
"""

import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from pyro.infer import MCMC
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from pyro_metacadi.checks import check_count
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.order_moves import OrderMoves
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.ops.graphs import order_ranks
from pyro_metacadi.ops.subsets import ScoreTable, random_orders, sample_subsets, subset_levels
from pyro_metacadi.typing import Array

__all__ = ["OrderMCMC", "sample_graphs"]


class OrderMCMC(MCMCKernel):
    """A kernel for ``pyro.infer.MCMC`` that moves several chains of orders side by side.

    A sweep relocates every variable once, in random sequence, by Gibbs sampling over all positions,
    proposes up to d // 2 swaps of two of which one may be the other's parent, and proposes that
    each chain and its heated copies exchange orders. Then every variable's parents are drawn given
    the order. A draw holds, in float64 on the CPU,

    * ``order_score`` ``[chain, variable]``: minus the position, so that the larger comes first;
    * ``parent_set`` ``[chain, variable]``: which of its candidates are a variable's parents, the
      DAG's `ScoreTable.adjacency`; not ``[parent, child]``, for ``MCMC`` keeps every draw;
    * ``log_score`` ``[chain]``: the log score of that DAG, ``table.log_prob``.

    Args:
        table: Scores of the parent sets.
        num_chains: Chains side by side; run ``MCMC`` itself with ``num_chains=1``.
        seed: Of a generator of the kernel's own; torch's global one is neither read nor moved.
        initial_orders: Variables of each chain in order, ``[chain, variable]``, causes first (as
            `topological_order` lists them); by default random ones.
        thin: Sweeps per draw.
        num_temperatures: Copies of each chain, at weights to the power 1 down to 1/10: on peaked
            scores chains are stuck without them. 1 is no heated copy.

    Raises:
        ConfigError: An option is of no use, or an initial order allows no scored graph.
    """

    model = None
    _heated: Array

    def __init__(
        self,
        table: ScoreTable,
        *,
        num_chains: int = 4,
        seed: int = 0,
        initial_orders: Int[Tensor, "chain variable"] | None = None,
        thin: int = 1,
        num_temperatures: int = 4,
    ) -> None:
        self._shape = (check_count("num_chains", num_chains), table.num_variables)
        self._thin = check_count("thin", thin)
        copies = check_count("num_temperatures", num_temperatures)
        # Rows of orders are all chains at power 1, then all at the next lower power.
        self._power = np.repeat(np.geomspace(1, 0.1, copies), num_chains)
        self._generator = torch.Generator().manual_seed(stream_seed(seed, "order_mcmc"))
        self._table = table.padded().ravel()
        self._levels = subset_levels(table.padded())
        # Candidates of earlier tiers precede whatever the order: an order is one of each tier.
        self._settled, bits = table.settled_bits().unsqueeze(-1), table.bits()
        bits = torch.where(bits & self._settled != 0, 0, bits)
        every = torch.arange(self._levels.shape[-1])
        zeta = self._levels[-1].gather(-1, every | self._settled)
        self._moves = OrderMoves(zeta, bits)
        self._tier = np.array(table.tier or [0] * table.num_variables)
        self._process = os.getpid()
        if initial_orders is None:
            initial_orders = random_orders(
                zeta, bits, num_orders=num_chains, generator=self._generator
            )
        self._start(initial_orders)
        self.setup(0)

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Count exchanges anew; refuse another process, which would copy the generator."""
        if os.getpid() != self._process:
            raise ConfigError(
                "num_chains: expected 1 for MCMC, got several processes with one generator. Give "
                "num_chains to the kernel."
            )
        self._exchanges = np.zeros(2, dtype=int)

    def cleanup(self) -> None:
        """Nothing is left behind."""

    def diagnostics(self) -> dict[str, float]:
        """The share of proposed exchanges with heated copies that were accepted."""
        return {"exchanges": float(self._exchanges[0] / max(1, self._exchanges[1]))}

    def logging(self) -> dict[str, str]:
        """The diagnostics, for Pyro's progress bar."""
        return {name: f"{share:.2f}" for name, share in self.diagnostics().items()}

    @property
    def initial_params(self) -> dict[str, Tensor]:
        """Where the chains start; setting it reads ``order_score`` and draws the parents anew."""
        return self._initial

    @initial_params.setter
    def initial_params(self, params: dict[str, Tensor]) -> None:
        self._start(torch.argsort(order_ranks(params["order_score"]), dim=-1))

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """Move every chain by `thin` sweeps from ``params["order_score"]`` and draw a DAG each."""
        rank = np.concatenate([order_ranks(params["order_score"]).numpy(), self._heated])
        key = self._moves.keys(rank)
        for _ in range(self._thin):
            self._sweep(rank, key)
            rank, key = self._exchange(rank, key)
        num_chains = self._shape[0]
        self._heated = rank[num_chains:]
        return self._draw(rank[:num_chains], key[:num_chains])

    def _sweep(self, rank: Array, key: Array) -> None:
        """Relocate every variable, and propose to swap half as many with a relative."""
        # Of an exponential variate E, -log E is Gumbel and -E the log of a uniform one.
        (rows, size), relatives = rank.shape, self._moves.relatives
        uniform = self._uniform(size, rows)
        for variable in self._uniform(size).argsort().tolist():
            self._moves.relocate(
                rank,
                key,
                variable,
                power=self._power,
                noise=-np.log(self._exponential(rows, 1 + len(relatives[variable]))),
                uniform=uniform[variable],
            )
        first_ones, others = self._uniform(size).argsort()[: size // 2], self._uniform(size // 2)
        thresholds = -self._exponential(size // 2, rows) / self._power
        for first, other, threshold in zip(first_ones, others, thresholds, strict=True):
            if len(relatives[first]):
                pair = int(first), int(relatives[first][int(other * len(relatives[first]))])
                self._moves.swap(rank, key, pair, threshold=threshold)

    def _exchange(self, rank: Array, key: Array) -> tuple[Array, Array]:
        num_chains = self._shape[0]
        power = self._power.reshape(-1, num_chains)
        for first in (0, 1):
            rows = np.arange(len(rank)).reshape(power.shape)
            lower = np.arange(first, len(power) - 1, 2)
            weight = self._moves.log_weight(key).reshape(power.shape)
            gain = (power[lower] - power[lower + 1]) * (weight[lower + 1] - weight[lower])
            accept = -self._exponential(*gain.shape) < gain
            rows[lower] += num_chains * accept
            rows[lower + 1] -= num_chains * accept
            rank, key = rank[rows.ravel()], key[rows.ravel()]
            self._exchanges += (accept.sum(), accept.size)
        return rank, key

    def _draw(self, rank: Array, key: Array) -> dict[str, Tensor]:
        offset = torch.from_numpy(self._moves.offset)
        allowed = torch.from_numpy(key) - offset | self._settled.squeeze(-1)
        parents = sample_subsets(self._levels, allowed, generator=self._generator)
        log_score = self._table[offset + parents].sum(-1)
        position = (self._tier * rank.shape[1] + rank).argsort(-1).argsort(-1)
        order_score = -torch.from_numpy(position).double()
        return {"order_score": order_score, "parent_set": parents.double(), "log_score": log_score}

    def _exponential(self, *shape: int) -> Array:
        variates = torch.empty(shape, dtype=torch.float64)
        return variates.exponential_(generator=self._generator).numpy()  # never 0

    def _uniform(self, *shape: int) -> Array:
        return torch.rand(shape, dtype=torch.float64, generator=self._generator).numpy()

    def _start(self, orders: Tensor) -> None:
        every = torch.arange(self._shape[1])
        if orders.shape != self._shape or (orders.sort().values != every).any():
            raise ConfigError(
                f"initial_orders: expected for each of {self._shape[0]} chains a permutation of "
                f"{self._shape[1]} variables, got {orders.tolist()}. Pass one order per chain."
            )
        rank = orders.long().argsort(-1).numpy()
        key = self._moves.keys(rank)
        impossible = np.flatnonzero(self._moves.log_weight(key) == -np.inf)
        if len(impossible):
            raise ConfigError(
                f"initial_orders: expected orders that allow a graph with a finite score, got "
                f"{orders[impossible[0]].tolist()} in chain {impossible[0]}. Leave them to chance."
            )
        self._heated = np.tile(rank, (len(self._power) // self._shape[0] - 1, 1))
        self._initial = self._draw(rank, key)


def sample_graphs(
    table: ScoreTable,
    *,
    num_draws: int = 500,
    warmup: int = 200,
    on_draw: Callable[[int, dict[str, Tensor]], None] | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Run `OrderMCMC` under Pyro's ``MCMC`` and stack what it draws.

    Args:
        table: Scores of the parent sets.
        num_draws: Draws kept of each chain.
        warmup: Draws left out before them.
        on_draw: Called with the number of each draw (warm-up included) and the draw.
        options: Of `OrderMCMC`: num_chains, seed, initial_orders, thin, num_temperatures.

    Returns:
        ``adjacency`` int8 ``[chain, draw, parent, child]``, ``order_score`` float64
        ``[chain, draw, variable]`` and ``log_score`` float64 ``[chain, draw]``.
    """
    check_count("num_draws", num_draws)
    check_count("warmup", warmup, minimum=0)
    numbers = itertools.count()

    def report(kernel: MCMCKernel, draw: dict[str, Tensor], stage: str, step: int) -> None:
        if on_draw is not None:
            on_draw(next(numbers), draw)

    kernel = OrderMCMC(table, **options)
    mcmc = MCMC(kernel, num_draws, warmup, hook_fn=report, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples()
    adjacency = table.adjacency(draws["parent_set"].long().transpose(0, 1))
    order_score = draws["order_score"].transpose(0, 1)
    log_score = draws["log_score"].T.contiguous()
    return {"adjacency": adjacency, "order_score": order_score, "log_score": log_score}
