r"""Rows drawn from a fitted chain in place of those that were measured, task by task.

Given a graph and targets, variables are drawn parents first: by the observational mechanism, or
where they are hit by what a hit of the task looks like. Both are as fitted, also where graph and
targets are drawn from the prior. Covariates, and totals of counts, are those that were measured.
"""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.lazy_batch import AnyBatch
from pyro_metacadi.inference.chains import Chain, Graphs
from pyro_metacadi.inference.draws import GraphDraws, SVIChain
from pyro_metacadi.inference.evidence_chain import EvidenceChain, EvidenceGraphs
from pyro_metacadi.inference.family_replicates import replicated_families
from pyro_metacadi.inference.library import PreparedTasks
from pyro_metacadi.inference.prior_graphs import prior_graphs
from pyro_metacadi.inference.seeds import isolated, stream_seed
from pyro_metacadi.models.noise.counts import sizes_of
from pyro_metacadi.ops.graphs import levels
from pyro_metacadi.ops.known import with_known

__all__ = ["Replicates", "draw_prior", "replicate", "replicates_of"]


class Replicates(NamedTuple):
    """Rows of the tasks one after the other, in the units of the chains.

    Attributes:
        x: Drawn.
        log_prob: Log density of each row drawn, given graph and targets.
        observed_log_prob: The same of each row that was measured.
    """

    x: Float[np.ndarray, "draw row variable"]
    log_prob: Float[np.ndarray, "draw row"]
    observed_log_prob: Float[np.ndarray, "draw row"]


@singledispatch
def draw_prior(
    chain: Any, tasks: Any, num_draws: int, *, seed: int
) -> tuple[Any, Int8[np.ndarray, "draw task variable"]] | None:
    """Graphs and targets of the prior; targets that are known are what they are.

    Returns:
        Graphs as `Chain.draw_graphs` gives them, and targets; None of a chain that cannot tell.
    """
    return None


@singledispatch
def replicate(
    chain: Any,
    tasks: Any,
    graphs: Any,
    targets: Int8[np.ndarray, "draw task variable"],
    *,
    seed: int,
) -> Replicates | None:
    """Rows for every graph and its targets; None of a chain that cannot tell."""
    return None


def replicates_of(
    drawn: Sequence[tuple[Chain, Graphs]], tasks: Any, *, seed: int, prior: bool
) -> dict[str, np.ndarray] | None:
    """`Replicates` of several chains, with their graphs and targets, ``[chain, draw, ...]``.

    Args:
        drawn: Chains, and graphs drawn from them.
        tasks: As the chains prepared them.
        seed: Targets are those that `Chain.draw_jointly` gives for it.
        prior: Whether graphs and targets are drawn from the prior instead.

    Returns:
        None if a chain cannot tell.
    """
    found = []
    for index, (chain, graphs) in enumerate(drawn):
        own = stream_seed(seed, index)
        if prior:
            joint = draw_prior(chain, tasks, len(graphs.adjacency), seed=own)
        else:
            joint = graphs, chain.draw_jointly(tasks, graphs, seed=own)["intervention_target"]
        rows = None if joint is None else replicate(chain, tasks, *joint, seed=own)
        if joint is None or rows is None:
            return None
        adjacency = joint[0].adjacency.to(torch.int8).cpu().numpy()
        both = {"adjacency": adjacency, "intervention_target": joint[1]}
        found.append({**both, **rows._asdict()})
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


@draw_prior.register
@torch.no_grad()
def _(
    chain: SVIChain, tasks: AnyBatch, num_draws: int, *, seed: int
) -> tuple[GraphDraws, Int8[np.ndarray, "draw task variable"]]:
    model, d = chain.model, chain.model.num_variables
    order_score, edge = [], []
    with isolated(stream_seed(seed, "prior"), chain.device):
        for _ in range(num_draws):
            score, indicator = model.sample_sites()
            order_score.append(score)
            edge.append(indicator)
        probability = torch.full((num_draws, tasks.num_tasks, d), model.target_prior)
        hit = _with_known(torch.bernoulli(probability), tasks.known)
    graphs = GraphDraws(torch.stack(order_score), torch.stack(edge), chain.guide.dag.constraints)
    return graphs, hit


@draw_prior.register
def _(
    chain: EvidenceChain, tasks: PreparedTasks, num_draws: int, *, seed: int
) -> tuple[EvidenceGraphs, Int8[np.ndarray, "draw task variable"]] | None:
    if chain.graph_odds is None:
        return None
    adjacency = prior_graphs(chain.graph_odds, num_draws, seed=seed)
    graphs = EvidenceGraphs(adjacency, torch.full((num_draws,), torch.nan, dtype=torch.float64))
    silent = torch.zeros(num_draws, tasks.rows.num_tasks, adjacency.shape[-1], dtype=torch.float64)
    generator = torch.Generator().manual_seed(stream_seed(seed, "prior targets") % 2**63)
    prior = chain.library.evidence.hyperparameters.targets
    known = None if tasks.known is None else tasks.known.cpu()
    hit = prior.sample(with_known(silent, known), generator=generator)
    return graphs, hit.to(torch.int8).cpu().numpy()


def _with_known(hit: Tensor, known: Tensor | None) -> Int8[np.ndarray, "draw task variable"]:
    if known is not None:
        hit = torch.where(known.cpu() >= 0, known.cpu().to(hit), hit)
    return hit.to(torch.int8).numpy()


@replicate.register
@torch.no_grad()
def _(
    chain: SVIChain,
    tasks: AnyBatch,
    graphs: GraphDraws,
    targets: Int8[np.ndarray, "draw task variable"],
    *,
    seed: int,
) -> Replicates:
    batch = tasks.read()
    parts: list[tuple[Tensor, ...]] = []
    with isolated(stream_seed(seed, "replicates"), chain.device):
        for values, hit in zip(graphs.chunks(1), targets, strict=True):
            target = torch.tensor(hit, device=chain.device).to(batch.x).unsqueeze(-2)
            parts.append(_replicated(chain, batch, values, target))
    x, log_prob, observed = (torch.stack(part).cpu().numpy() for part in zip(*parts, strict=True))
    return Replicates(x, log_prob, observed)


def _replicated(
    chain: SVIChain, batch: TaskBatch, values: dict[str, Tensor], target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows for one graph, and densities of theirs and of those measured."""
    model, mechanisms = chain.model, chain.model.mechanisms
    _, adapted = chain.guide.infer_targets(batch, **values)
    own = {name: value[0] for name, value in adapted.items()}
    adjacency = model.adjacency(values["order_score"], values["edge"])[0]

    def law(x: Tensor) -> Any:
        inputs = model.inputs(x, batch.x)
        features = mechanisms.features(inputs, adjacency, own)
        loc = torch.lerp(
            mechanisms.observe(inputs, adjacency, own),
            mechanisms.intervene(features, own["readout"]),
            target,
        )
        return model.noise(loc, features, *sizes_of(model.noise, batch.x))

    x = batch.x
    level = levels(adjacency)
    for depth in range(int(level.max()) + 1):
        x = torch.where(level == depth, law(x).sample(), x)
    log_prob, observed = (law(one).log_prob(one).sum(-1)[batch.mask] for one in (x, batch.x))
    return x[batch.mask], log_prob, observed


@replicate.register
@torch.inference_mode()
def _(
    chain: EvidenceChain,
    tasks: PreparedTasks,
    graphs: EvidenceGraphs,
    targets: Int8[np.ndarray, "draw task variable"],
    *,
    seed: int,
) -> Replicates:
    with isolated(stream_seed(seed, "replicates"), chain.device):
        found = replicated_families(
            chain.library.mechanisms,
            tasks.rows,
            graphs,
            hit=torch.tensor(targets),
        )
    return Replicates(*(part.cpu().numpy() for part in found))
