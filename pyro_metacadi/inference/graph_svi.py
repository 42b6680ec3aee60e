r"""DP-DAG fitted by SVI to a decomposable score, with the variance that it need not have taken out.

.. math:: \mathrm{ELBO} = E_q \sum_i score(i, \text{parents of } i) - KL(q \,\|\, p)

The reference is `EvidenceModel` under Pyro's ``TraceGraph_ELBO``, whose gradient is on average that
of ``bound="program"``. Here many draws share a step, and each parameter hears only of scores that
it has a say in.

Order MCMC, which the evidence engine uses, draws graphs of as high or a higher score in less time:
`benchmarks/graph_posterior.py`, whose output is in `benchmarks/results`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from pyro_metacadi.checks import check_count
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides.dag import DAGGuide
from pyro_metacadi.inference.graph_score import CERTAIN
from pyro_metacadi.inference.seeds import isolated, stream_seed
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.graphs import check_dag, order_ranks, precedence, topological_order
from pyro_metacadi.typing import Array

__all__ = ["GraphELBO", "GuideFit", "fit_dag_guide"]

Bound = Literal["graph", "program"]

EDGE_LOGIT, ORDER_STEP = 3.0, 2.0
"""Of a guide that starts at a graph: log odds of its edges, difference of consecutive variables."""


class GuideFit(NamedTuple):
    """A fitted guide, in float64, and the estimate of the ELBO at every step."""

    guide: DAGGuide
    elbo: Float[np.ndarray, " step"]


@dataclass(frozen=True, eq=False)
class GraphELBO:
    r"""Estimates the ELBO of a `DAGGuide`, and its gradient.

    The score-function gradient, Rao-Blackwellised:

    * :math:`\phi_{ji}` learns from the score of variable i only, in draws where j comes before i;
    * ψ learns from the law of the order, not of its Gumbel scores; the choice of the k-th variable
      from the scores of this and later ones, for those of earlier ones are settled by then;
    * the baseline of a variable's score is the mean of the other draws' scores of this variable.

    Attributes:
        score: Log evidence of many families, a list; asked anew at every step, so it should
            remember (as `MechanismEvidence.scores` does). Finite.
        edge_log_odds: Log prior odds ``[parent, child]`` of the edges that the order allows.
        bound: ``"graph"`` takes the KL of what the graph shows: of the order, estimated, and of the
            edges that it allows, closed form. ``"program"`` takes that of `EvidenceModel`'s sites,
            closed form: of the Gumbel scores and of all indicators. That is the looser bound.

    Source: Ranganath, Gerrish and Blei 2014, Section 3 (Rao-Blackwellisation); Kool, van Hoof and
    Welling 2019 (leave-one-out baselines).
    """

    score: Callable[[Sequence[Family]], list[float]]
    edge_log_odds: Float[Tensor, "parent child"]
    bound: Bound = "graph"

    def __call__(self, guide: DAGGuide, *, num_draws: int) -> Float[Tensor, ""]:
        """Unbiased estimate whose gradient is unbiased, from at least two draws.

        Raises:
            ConfigError: A score is not finite.
        """
        with torch.no_grad():
            rank = order_ranks(guide.order().sample(torch.Size([num_draws])))
            edge = guide.edge().sample(torch.Size([num_draws]))
        forward, order = precedence(rank), rank.argsort(-1)
        score = self._scores(forward & (edge != 0))
        gain = _centred(score)
        log_edge = forward * (edge * guide.edge_logits - softplus(guide.edge_logits))
        log_choice = _log_choices(guide.order_loc, order)
        reward = self._rewards(gain.gather(-1, order), log_choice.detach())
        surrogate = (gain * log_edge.sum(-2)).sum(-1).mean() + (reward * log_choice).sum(-1).mean()
        value = score.sum(-1).mean() - self._order_kl(guide, log_choice) - self._edge_kl(guide)
        return value + surrogate - surrogate.detach()

    def _rewards(
        self, gain: Float[Tensor, "draw position"], log_choice: Float[Tensor, "draw position"]
    ) -> Float[Tensor, "draw position"]:
        """What followed from each choice of a next variable."""
        if self.bound == "graph":
            gain = gain - _centred(log_choice)
        return gain.flip(-1).cumsum(-1).flip(-1)

    def _scores(self, parents: Bool[Tensor, "draw parent child"]) -> Float[Tensor, "draw variable"]:
        """The score of every variable in every draw."""
        packed = np.packbits(parents.mT.cpu().numpy(), axis=-1, bitorder="little")
        families = [
            Family(child, int.from_bytes(bits.tobytes(), "little"))
            for draw in packed
            for child, bits in enumerate(draw)
        ]
        score = torch.tensor(self.score(families), dtype=torch.float64)
        if not score.isfinite().all():
            wrong = int(torch.nonzero(~score.isfinite())[0])
            child, mask = families[wrong]
            found = [j for j in range(parents.shape[-1]) if mask >> j & 1]
            raise ConfigError(
                f"score: expected finite values, got {score[wrong].item()} for variable {child} "
                f"with parents {found}. Leave edges without scores out: candidates."
            )
        return score.reshape(len(packed), -1)

    def _order_kl(self, guide: DAGGuide, log_choice: Tensor) -> Float[Tensor, ""]:
        if self.bound == "graph":  # its gradient is in the surrogate
            return log_choice.detach().sum(-1).mean() + math.lgamma(len(guide.order_loc) + 1)
        return (guide.order_loc + torch.exp(-guide.order_loc) - 1).sum()

    def _edge_kl(self, guide: DAGGuide) -> Float[Tensor, ""]:
        logits, prior = guide.edge_logits, self.edge_log_odds
        kl = torch.sigmoid(logits) * (logits - prior) - softplus(logits) + softplus(prior)
        if self.bound == "graph":
            kl = kl * torch.sigmoid(guide.order_loc.unsqueeze(1) - guide.order_loc)
        return kl.sum() - kl.diagonal().sum()


def fit_dag_guide(
    score: Callable[[Sequence[Family]], list[float]],
    num_variables: int,
    *,
    edge_log_odds: Array | float,
    num_steps: int = 1000,
    num_draws: int = 64,
    seed: int = 0,
    initial: Tensor | None = None,
    candidates: Tensor | None = None,
    learning_rate: float = 0.2,
    bound: Bound = "graph",
) -> GuideFit:
    """Maximise the ELBO with Adam, its rate falling to zero along a cosine.

    Args:
        score: See `GraphELBO`.
        num_variables: d.
        edge_log_odds: Log prior odds of every edge ``[parent, child]``, or of all. At +-`CERTAIN`
            an indicator is fixed; a required edge still is none where the order forbids it.
        num_steps: Gradient steps.
        num_draws: Graphs drawn at each, at least 2.
        seed: Of the draws; the caller's random state stays as it is.
        initial: A DAG ``[parent, child]`` to start near, such as a greedy search's; by default the
            prior is the start.
        candidates: 1 where an edge ``[parent, child]`` may be drawn, by default everywhere. The
            bound is on the same evidence, and the looser for what is left out.
        learning_rate: Of Adam, in nats.
        bound: See `GraphELBO`.

    Raises:
        ConfigError: An option is of no use, or a score is not finite.
        GraphError: `initial` is not a DAG.
    """
    _check_numbers(num_steps=num_steps, num_draws=num_draws, learning_rate=learning_rate)
    if bound not in ("graph", "program"):
        raise ConfigError(f"bound: expected 'graph' or 'program', got {bound!r}.")
    prior = _checked_odds(edge_log_odds, check_count("num_variables", num_variables))
    elbo = GraphELBO(score, prior, bound)
    with isolated(stream_seed(seed, "graph_svi") % 2**63):
        guide = _start(prior, initial=initial, candidates=candidates)
        optimiser = torch.optim.Adam(guide.parameters(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
        trace = []
        for _ in range(num_steps):
            optimiser.zero_grad(set_to_none=True)
            value = elbo(guide, num_draws=num_draws)
            (-value).backward()
            optimiser.step()
            schedule.step()
            trace.append(value.item())
    return GuideFit(guide, np.array(trace))


def _check_numbers(*, num_steps: int, num_draws: int, learning_rate: float) -> None:
    check_count("num_steps", num_steps)
    check_count("num_draws", num_draws, minimum=2)
    if not 0 < learning_rate < math.inf:
        raise ConfigError(f"learning_rate: expected a number > 0, got {learning_rate!r}.")


def _checked_odds(edge_log_odds: Array | float, size: int) -> Float[Tensor, "parent child"]:
    """As float64 `[parent, child]`, within +-`CERTAIN`."""
    odds = np.asarray(edge_log_odds, dtype=float)
    if odds.shape not in ((), (size, size)):
        raise ConfigError(
            f"edge_log_odds: expected one number or a matrix {[size, size]}, got "
            f"{list(odds.shape)}. Rows are parents, columns children."
        )
    if np.isnan(odds).any():
        raise ConfigError("edge_log_odds: expected numbers, got NaN. Pass log p - log(1 - p).")
    odds = np.clip(odds, -CERTAIN, CERTAIN)
    return torch.tensor(np.broadcast_to(odds, (size, size)).copy())


def _start(
    prior: Float[Tensor, "parent child"], *, initial: Tensor | None, candidates: Tensor | None
) -> DAGGuide:
    """A guide at the prior, or near a graph; what is certain stays so, for its gradient is 0."""
    for name, matrix in {"initial": initial, "candidates": candidates}.items():
        if matrix is not None and matrix.shape != prior.shape:
            raise ConfigError(
                f"{name}: expected shape {list(prior.shape)}, got {list(matrix.shape)}. Rows are "
                f"parents, columns children."
            )
    guide = DAGGuide(len(prior)).double()
    logits, loc = prior.clone(), torch.zeros(len(prior), dtype=torch.float64)
    if initial is not None:
        check_dag(initial)
        logits = torch.where(initial != 0, EDGE_LOGIT, logits.clamp(max=-EDGE_LOGIT))
        order = topological_order(initial)
        loc[order] = ORDER_STEP * torch.arange(len(prior) - 1, -1, -1, dtype=loc.dtype)
    logits = torch.where(prior.abs() >= CERTAIN, prior, logits)
    if candidates is not None:
        logits = logits.masked_fill(candidates == 0, -CERTAIN)
    with torch.no_grad():
        guide.edge_logits.copy_(logits)
        guide.order_loc.copy_(loc)
    return guide


def _log_choices(
    loc: Float[Tensor, " variable"], order: Int[Tensor, "draw position"]
) -> Float[Tensor, "draw position"]:
    """Log probability of each next variable among those that remain: Plackett and Luce's law."""
    chosen = loc[order]
    return chosen - chosen.flip(-1).logcumsumexp(-1).flip(-1)


def _centred(value: Float[Tensor, "draw _"]) -> Float[Tensor, "draw _"]:
    """Each draw's value less the mean of the others'."""
    return (value - value.mean(0)) * (len(value) / (len(value) - 1))
