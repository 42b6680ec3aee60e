"""The evidence of a graph as a Pyro program: a prior over graphs and a factor per variable."""

import pyro
import torch
from jaxtyping import Float
from pyro.nn import PyroModule
from torch import Tensor

from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import families_of
from pyro_metacadi.models.priors import GraphPrior, constraints_of, sample_order_and_edges
from pyro_metacadi.ops.constraints import constrained_adjacency

__all__ = ["EvidenceModel"]


class EvidenceModel(PyroModule):
    """Pyro program over graphs: the prior's sites, and the evidence as a factor per variable.

    Sites `order_score` and `edge` are those of `MetaCaDIModel`, so that a guide for its graphs is
    one for these. It has no other latent site: mechanisms and targets are integrated out. The
    evidence has no gradient.

    Args:
        evidence: Scores families.
        graph_prior: Law of `edge`.
    """

    zero: Tensor

    def __init__(self, evidence: MechanismEvidence, *, graph_prior: GraphPrior) -> None:
        super().__init__()
        self.evidence, self.graph_prior = evidence, graph_prior
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self) -> Float[Tensor, "parent child"]:
        """Run the program; returns the adjacency, rows being causes."""
        zeros = self.zero.new_zeros(self.evidence.num_variables)
        order_score, edge = sample_order_and_edges(self.graph_prior, zeros)
        adjacency = constrained_adjacency(constraints_of(self.graph_prior), order_score, edge=edge)
        scores = self.evidence.scores(families_of(adjacency.detach()))
        with pyro.plate("variables", len(scores), dim=-1):
            # In float32 thousands of nats would lose the digits in which graphs differ.
            log_factor = torch.tensor(scores, dtype=torch.float64, device=edge.device)
            # TraceGraph_ELBO tells by the tensors that went into a site which others it depends on.
            pyro.factor("evidence", log_factor + 0 * adjacency.detach().sum(-2))
        return adjacency
