"""A Markov chain's graphs, with mechanisms and targets in closed form given each graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from pyro_metacadi.inference.chains import NUM_GRAPHS
from pyro_metacadi.inference.graph_score import GraphOdds
from pyro_metacadi.inference.library import MechanismLibrary, PreparedTasks
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.models.families import Family, families_of
from pyro_metacadi.ops.graphs import levels
from pyro_metacadi.ops.known import with_known
from pyro_metacadi.ops.target_counts import CountedTargets, IndependentTargets

__all__ = ["EvidenceChain", "EvidenceGraphs"]

MOST_FLOATS = 2**22
"""Graphs times tasks times variables that are judged at once."""


@dataclass(frozen=True, eq=False)
class EvidenceGraphs:
    """Graphs of a chain, with the log score (evidence times prior) of each."""

    adjacency: Int[Tensor, "draw parent child"]
    log_score: Float[Tensor, " draw"]

    @cached_property
    def families(self) -> list[Family]:
        """The different families in these graphs."""
        return list(dict.fromkeys(f for graph in self._by_draw for f in graph))

    @cached_property
    def index(self) -> Int[Tensor, "draw variable"]:
        """Position of every variable's family of every draw in `families`."""
        position = {family: at for at, family in enumerate(self.families)}
        return torch.tensor([[position[family] for family in graph] for graph in self._by_draw])

    def parents_first(self) -> list[tuple[Family, Int[Tensor, " some"], int]]:
        """Families, the draws that have each, and its level there; no level needs a later one."""
        level = levels(self.adjacency)
        pairs = torch.stack([level, self.index], -1)
        found = []
        for depth, position in torch.unique(pairs.flatten(0, 1), dim=0).tolist():
            family = self.families[position]
            here = (pairs[:, family.variable] == pairs.new_tensor([depth, position])).all(-1)
            found.append((family, here.nonzero().flatten(), depth))
        return found

    @cached_property
    def different(self) -> tuple[Int[Tensor, "graph variable"], Int[Tensor, " graph"]]:
        """`index` of the different graphs, and how many draws each is."""
        index, counts = torch.unique(self.index, dim=0, return_counts=True)
        return index, counts

    @cached_property
    def _by_draw(self) -> list[list[Family]]:
        # Draws repeat: each different graph is taken apart once.
        different, inverse = torch.unique(self.adjacency, dim=0, return_inverse=True)
        families = [families_of(graph) for graph in different]
        return [families[at] for at in inverse.tolist()]


@dataclass(frozen=True, eq=False)
class EvidenceChain:
    """One Markov chain over graphs (a `Chain`, see `pyro_metacadi.inference.chains`).

    Attributes:
        library: Fitted mechanisms, shared by the chains of a fit.
        adjacency: The chain's states after warm-up.
        log_score: Log evidence plus log prior of each.
        graph_odds: The prior of graphs, if graphs are to be drawn from it.
    """

    library: MechanismLibrary
    adjacency: Int[Tensor, "draw parent child"]
    log_score: Float[Tensor, " draw"]
    graph_odds: GraphOdds | None = None

    @property
    def device(self) -> torch.device:
        """Where the chain computes."""
        return self.library.evidence.rows.x.device

    def prepare(
        self,
        standardised: Sequence[Float[np.ndarray, "_ column"]],
        *,
        known: Int8[np.ndarray, "task variable"] | None = None,
    ) -> PreparedTasks:
        """Rows of tasks, in the units of the representation, and which targets are known."""
        return self.library.prepare(standardised, known=known)

    def edge_probability(self) -> Float[np.ndarray, "parent child"]:
        """Share of the chain's graphs that have each edge."""
        return self.adjacency.double().mean(0).numpy()

    @property
    def edge_probability_note(self) -> str:
        """Draws of a Markov chain: a posterior averages over several of equal length."""
        return f"share of sampled graphs, {len(self.adjacency)} of each Markov chain"

    def draw_graphs(self, num_draws: int, *, seed: int) -> EvidenceGraphs:
        """States of the chain in their order, evenly spaced, or repeated if more are wanted.

        They do not depend on the seed. Shuffled, states that resemble their neighbours would pass
        for independent ones, of which effective sample sizes would then be too large.
        """
        size = len(self.adjacency)
        if num_draws == NUM_GRAPHS <= size:
            return self.usual_graphs
        repeated = torch.arange(num_draws) * size // num_draws
        chosen = self._spaced(num_draws) if num_draws <= size else repeated
        return EvidenceGraphs(self.adjacency[chosen], self.log_score[chosen])

    @cached_property
    def usual_graphs(self) -> EvidenceGraphs:
        """Those that posteriors average over unless told otherwise, taken apart once."""
        chosen = self._spaced(min(NUM_GRAPHS, len(self.adjacency)))
        return EvidenceGraphs(self.adjacency[chosen], self.log_score[chosen])

    def _spaced(self, num_draws: int) -> Int[Tensor, " draw"]:
        return torch.linspace(0, len(self.adjacency) - 1, num_draws).round().long()

    def target_probability(
        self, tasks: PreparedTasks, graphs: EvidenceGraphs
    ) -> Float[np.ndarray, "task variable"]:
        """Probability of every target, averaged over the graphs: closed form, nothing sampled."""
        return self.target_probabilities(tasks, [graphs])[0]

    @torch.inference_mode()  # operations are small, and what autograd notes of each is not
    def target_probabilities(
        self, tasks: PreparedTasks, graphs: Sequence[EvidenceGraphs]
    ) -> Float[np.ndarray, "chain task variable"]:
        """The same of graphs of several chains; one that several have drawn is judged once."""
        families, index, counts = _joined(graphs)
        by_family = self.library.log_ratio(tasks, families).mT
        counts = counts.to(by_family.device)
        at_once = max(1, MOST_FLOATS // (len(by_family) * index.shape[1]))
        total = torch.zeros((), dtype=torch.float64)
        for part, count in zip(index.split(at_once), counts.split(at_once, 1), strict=True):
            log_ratio = by_family[:, part.to(by_family.device)].movedim(0, 1)
            log_ratio = with_known(log_ratio, tasks.known)
            probability = torch.sigmoid(self._prior.posterior_log_odds(log_ratio))
            total = total + (count @ probability.flatten(1)).view(-1, *probability.shape[1:])
        # Divided last: shares that add up to a rounded one would give more than certainty.
        return (total / counts.sum(1).view(-1, 1, 1)).cpu().numpy()

    @torch.inference_mode()
    def target_probability_by_graph(
        self, tasks: PreparedTasks, graphs: EvidenceGraphs
    ) -> Float[np.ndarray, "draw task variable"]:
        """Probability of every target under each graph."""
        return torch.sigmoid(self.target_log_odds(tasks, graphs)).cpu().numpy()

    def target_log_odds(
        self, tasks: PreparedTasks, graphs: EvidenceGraphs
    ) -> Float[Tensor, "draw task variable"]:
        """Posterior log odds of every target under each graph."""
        return self._prior.posterior_log_odds(self._log_ratio(tasks, graphs, graphs.index))

    def target_evidence(
        self, tasks: PreparedTasks, graphs: EvidenceGraphs
    ) -> Float[np.ndarray, "task variable"]:
        """Nats by which the rows speak for every target, beyond 20 tempered: median over graphs."""
        ratio = self.library.log_ratio(tasks, graphs.families)
        return ratio[graphs.index.to(ratio.device)].median(0).values.mT.cpu().numpy()

    def draw_jointly(
        self, tasks: PreparedTasks, graphs: EvidenceGraphs, *, seed: int
    ) -> dict[str, np.ndarray]:
        """Targets of every task for every graph.

        Returns:
            ``adjacency`` ``[draw, parent, child]`` and ``intervention_target``
            ``[draw, task, variable]``, both int8.
        """
        generator = torch.Generator().manual_seed(stream_seed(seed, "targets") % 2**63)
        hit = self._prior.sample(self._log_ratio(tasks, graphs, graphs.index), generator=generator)
        return {
            "adjacency": graphs.adjacency.to(torch.int8).numpy(),
            "intervention_target": hit.to(torch.int8).cpu().numpy(),
        }

    def score(
        self, tasks: PreparedTasks, graphs: EvidenceGraphs, *, seed: int
    ) -> dict[str, np.ndarray]:
        """Joint draws as in `draw_jointly`, with densities.

        Returns:
            The draws, ``log_likelihood`` ``[draw, row]`` (rows of the tasks one after the other)
            given targets and graph, and ``lp`` ``[draw]``, the graph's log score.
        """
        drawn = self.draw_jointly(tasks, graphs, seed=seed)
        density = self.library.row_log_prob(tasks, graphs.families).cpu()
        hit = torch.tensor(drawn["intervention_target"]).mT  # [draw, variable, task]
        likelihood = []
        for index, targets in zip(graphs.index, hit, strict=True):
            by_row = tasks.rows.spread(targets).bool()
            free, if_hit = density[index].unbind(1)
            likelihood.append(torch.where(by_row, if_hit, free).sum(0))
        return {
            **drawn,
            "log_likelihood": torch.stack(likelihood).numpy(),
            "lp": graphs.log_score.numpy(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """The chain's states; mechanisms are fitted again when they are needed."""
        return {"adjacency": self.adjacency, "log_score": self.log_score}

    @property
    def _prior(self) -> CountedTargets | IndependentTargets:
        return self.library.evidence.hyperparameters.targets

    def _log_ratio(
        self, tasks: PreparedTasks, graphs: EvidenceGraphs, index: Int[Tensor, "draw variable"]
    ) -> Float[Tensor, "draw task variable"]:
        by_family = self.library.log_ratio(tasks, graphs.families)
        return with_known(by_family[index.to(by_family.device)].mT, tasks.known)


def _joined(
    graphs: Sequence[EvidenceGraphs],
) -> tuple[list[Family], Int[Tensor, "graph variable"], Float[Tensor, "chain graph"]]:
    """The different families and graphs of several chains, and each chain's draws of each graph."""
    families = list(dict.fromkeys(family for one in graphs for family in one.families))
    position = {family: at for at, family in enumerate(families)}
    parts = [torch.tensor([position[family] for family in one.families]) for one in graphs]
    every = torch.cat([part[one.different[0]] for part, one in zip(parts, graphs, strict=True)])
    index, graph = torch.unique(every, dim=0, return_inverse=True)
    number = torch.cat([one.different[1] for one in graphs]).double()
    chain = torch.arange(len(graphs)).repeat_interleave(
        torch.tensor([len(one.different[1]) for one in graphs])
    )
    counts = torch.zeros(len(graphs), len(index), dtype=torch.float64)
    return families, index, counts.index_put_((chain, graph), number)
