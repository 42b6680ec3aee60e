"""Draws from a fitted guide, and what the model says of them, many graphs at once."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyro
import torch
from jaxtyping import Float, Int8
from pyro import poutine
from torch import Tensor

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.lazy_batch import AnyBatch, batch_of
from pyro_metacadi.guides.metacadi import MetaCaDIGuide
from pyro_metacadi.inference.chains import Chain
from pyro_metacadi.inference.objective import node
from pyro_metacadi.inference.seeds import isolated, stream_seed
from pyro_metacadi.models.metacadi import MetaCaDIModel
from pyro_metacadi.ops.constraints import GraphConstraints, constrained_adjacency

__all__ = ["GraphDraws", "SVIChain"]

# Hidden activations, and what is tasks' own, held at once, in floats: 64 MiB.
CHUNK_FLOATS = 2**24

NUM_EDGE_DRAWS, DRAWS_AT_ONCE = 10_000, 500
"""Graphs whose mean edge probabilities are where no closed form is known."""


@dataclass(frozen=True)
class GraphDraws:
    """Order scores and edge indicators drawn from a guide."""

    order_score: Float[Tensor, "draw variable"]
    edge: Float[Tensor, "draw parent child"]
    constraints: GraphConstraints | None = None

    @property
    def adjacency(self) -> Float[Tensor, "draw parent child"]:
        """The DAGs; ``adjacency[:, i, j] = 1`` is X_i -> X_j."""
        return constrained_adjacency(self.constraints, self.order_score, edge=self.edge)

    def chunks(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Site values of up to `size` draws at a time, shaped for a plate of draws at dim -3."""
        pairs = zip(self.order_score.split(size), self.edge.split(size), strict=True)
        for order_score, edge in pairs:
            yield {
                "order_score": order_score[:, None, None],
                "edge": edge[:, None, None],
            }


class SVIChain(NamedTuple):
    """A model and its guide, fitted together from one seed: the `Chain` of the engine ``svi``."""

    model: MetaCaDIModel
    guide: MetaCaDIGuide

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.model.zero.device

    def to(self, device: torch.device) -> "SVIChain":
        """Move both modules to `device`, in place."""
        return SVIChain(self.model.to(device), self.guide.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, such as ``guide.dag.edge_logits``."""
        return {
            f"{part}.{name}": value
            for part, module in self._asdict().items()
            for name, value in module.state_dict().items()
        }

    def prepare(
        self,
        standardised: Sequence[Float[np.ndarray, "_ variable"]],
        *,
        known: Int8[np.ndarray, "task variable"] | None = None,
    ) -> AnyBatch:
        """Rows of tasks as one batch on the chain's device; those on disk stay there."""
        batch = batch_of(standardised, known=known, device=self.device)
        if isinstance(batch, TaskBatch):
            floats = batch.x[0].numel() * self.model.mechanisms.num_features + self.model.own_size
            batch = replace(batch, at_once=max(1, CHUNK_FLOATS // floats))
        return batch

    @torch.no_grad()
    def edge_probability(self) -> Float[np.ndarray, "parent child"]:
        """Probability of every edge under the guide (see `edge_probability_note`)."""
        if self.guide.dag.probability_is_exact:
            return self.guide.dag.edge_probability().double().cpu().numpy()
        seeds = (stream_seed(0, "edges", part) for part in range(NUM_EDGE_DRAWS // DRAWS_AT_ONCE))
        parts = [self.draw_graphs(DRAWS_AT_ONCE, seed=s).adjacency.double().mean(0) for s in seeds]
        return torch.stack(parts).mean(0).cpu().numpy()

    @property
    def edge_probability_note(self) -> str:
        """Exact, or a mean over draws where what the prior demands leaves no closed form."""
        if self.guide.dag.probability_is_exact:
            return "exact under the guide"
        return f"mean of {NUM_EDGE_DRAWS} graphs drawn from the guide with seed 0"

    @torch.no_grad()
    def draw_graphs(self, num_draws: int, *, seed: int) -> GraphDraws:
        """Independent graphs; the same for the same seed, whatever the tasks and the device."""
        # Each device has its own generator, so that graphs are always drawn on the CPU.
        dag = copy.deepcopy(self.guide.dag).cpu()
        with isolated(stream_seed(seed, "graphs")):
            order_score, edge = dag.sample(num_draws)
        return GraphDraws(
            order_score.to(self.device), edge.to(self.device), self.guide.dag.constraints
        )

    @torch.no_grad()
    def target_probability(
        self, tasks: AnyBatch, graphs: GraphDraws
    ) -> Float[np.ndarray, "task variable"]:
        """Probability of every target, averaged over the graphs: closed form, nothing sampled."""
        parts = []
        with isolated(0, self.device):
            for batch in (part.read() for part in tasks.parts()):
                total = torch.zeros(batch.num_tasks, batch.num_variables, dtype=torch.float64)
                for probability in _target_probabilities(self, batch, graphs):
                    total += probability.sum(0)
                parts.append(total / len(graphs.order_score))
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def target_probability_by_graph(
        self, tasks: AnyBatch, graphs: GraphDraws
    ) -> Float[np.ndarray, "draw task variable"]:
        """Probability of every target under each graph."""
        with isolated(0, self.device):
            batches = (part.read() for part in tasks.parts())
            parts = [torch.cat([*_target_probabilities(self, b, graphs)]) for b in batches]
        return torch.cat(parts, dim=1).numpy()

    def target_evidence(self, tasks: TaskBatch, graphs: GraphDraws) -> None:
        """Nothing: mechanisms fitted to a task's own rows refute no hit.

        Nor do they speak against it: where a hit moved the parents beyond what the shared mechanism
        has seen, they predict better, cross-fitted as well.
        """

    @torch.no_grad()
    def draw_jointly(
        self, tasks: AnyBatch, graphs: GraphDraws, *, seed: int
    ) -> dict[str, np.ndarray]:
        """Targets of every task for every graph: joint draws from the guide.

        Returns:
            ``adjacency`` ``[draw, parent, child]`` and ``intervention_target``
            ``[draw, task, variable]``, both int8.
        """
        parts = []
        with isolated(stream_seed(seed, "targets"), self.device):
            for batch in (part.read() for part in tasks.parts()):
                targets = []
                for values in graphs.chunks(_chunk_size(self, batch)):
                    drawn = _guide_trace(self, batch, values)
                    target = node(drawn, "intervention_target")["value"]
                    targets.append(target.squeeze(-2).to(torch.int8).cpu())
                parts.append(torch.cat(targets))
        return {
            "adjacency": graphs.adjacency.to(torch.int8).cpu().numpy(),
            "intervention_target": torch.cat(parts, dim=1).numpy(),
        }

    @torch.no_grad()
    def score(self, tasks: AnyBatch, graphs: GraphDraws, *, seed: int) -> dict[str, np.ndarray]:
        """Joint draws as in `draw_jointly`, with their densities.

        Rows on disk are all read at once.

        Returns:
            The draws, and ``log_likelihood`` ``[draw, row]`` (rows of the tasks one after the
            other), ``log_p`` ``[draw]``, the model's log density of draw and data, and ``log_q``
            ``[draw]``, the guide's. Both are densities of (order_score, edge, targets), of which
            ``adjacency`` is a function, so that their difference is the draw's log weight. The
            readout, or whatever else was adapted, a function of the graph and the data, enters
            neither.
        """
        names = ("target", "log_likelihood", "log_p", "log_q")
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        batch = tasks.read()
        with isolated(stream_seed(seed, "targets"), self.device):
            for values in graphs.chunks(_chunk_size(self, batch)):
                guide_trace = _guide_trace(self, batch, values)
                model_trace = _model_trace(self, batch, values, guide_trace)
                target = node(guide_trace, "intervention_target")
                parts["target"].append(target["value"].squeeze(-2).to(torch.int8))
                parts["log_likelihood"].append(node(model_trace, "x")["log_prob"][:, batch.mask])
                parts["log_p"].append(_per_draw(model_trace))
                graph_log_q = _graph_log_q(self, values)
                parts["log_q"].append(graph_log_q + target["log_prob"].flatten(1).sum(-1))
        joined = {name: torch.cat(values).cpu().numpy() for name, values in parts.items()}
        joined["intervention_target"] = joined.pop("target")
        joined["adjacency"] = graphs.adjacency.to(torch.int8).cpu().numpy()
        return joined


_: type[Chain] = SVIChain  # a method that is missing is named here, when types are checked


def _target_probabilities(
    chain: SVIChain, batch: TaskBatch, graphs: GraphDraws
) -> Iterator[Float[Tensor, "draw task variable"]]:
    """Under each graph, a chunk of graphs at a time."""
    for values in graphs.chunks(_chunk_size(chain, batch)):
        logits, _ = chain.guide.infer_targets(batch, **values)
        yield torch.sigmoid(logits.double()).cpu()


def _guide_trace(chain: SVIChain, batch: TaskBatch, values: dict[str, Tensor]) -> poutine.Trace:
    with pyro.plate("draws", len(values["edge"]), dim=-3):
        trace = poutine.trace(chain.guide.given(values)).get_trace(batch)
    trace.compute_log_prob()
    return trace


def _model_trace(
    chain: SVIChain, batch: TaskBatch, values: dict[str, Tensor], guide_trace: poutine.Trace
) -> poutine.Trace:
    model = poutine.replay(poutine.condition(chain.model, values), guide_trace)
    with pyro.plate("draws", len(values["edge"]), dim=-3):
        trace = poutine.trace(model).get_trace(batch)
    trace.compute_log_prob()
    return trace


def _per_draw(trace: poutine.Trace) -> Float[Tensor, " draw"]:
    sites = ("order_score", "edge", "intervention_target", "x")
    return torch.stack([node(trace, name)["log_prob"].flatten(1).sum(-1) for name in sites]).sum(0)


def _graph_log_q(chain: SVIChain, values: dict[str, Tensor]) -> Float[Tensor, " draw"]:
    dag = chain.guide.dag
    order_score, edge = values["order_score"], values["edge"]
    log_q = dag.order().log_prob(order_score) + dag.edge(order_score).log_prob(edge)
    return log_q.flatten(1).sum(-1)


def _chunk_size(chain: SVIChain, batch: TaskBatch) -> int:
    per_row = batch.num_variables * chain.model.mechanisms.num_features
    per_draw = batch.mask.numel() * per_row + batch.num_tasks * chain.model.own_size
    return max(1, CHUNK_FLOATS // per_draw)
