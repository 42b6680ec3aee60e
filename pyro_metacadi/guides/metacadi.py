"""The variational posterior of Eq. 1, as a Pyro guide with the model's sites and signature."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.distributions import PartlyKnownBernoulli, StraightThroughBernoulli
from pyro_metacadi.guides.adaptation import Adaptation
from pyro_metacadi.guides.dag import DAGGuide
from pyro_metacadi.guides.features import feature_blocks
from pyro_metacadi.guides.targets import TargetPredictor
from pyro_metacadi.models.metacadi import MetaCaDIModel, task_plate
from pyro_metacadi.ops.known import with_known
from pyro_metacadi.ops.pieces import in_pieces

__all__ = ["MetaCaDIGuide"]


class MetaCaDIGuide(AutoGuide):
    r"""q(order) q(edge) q(targets | graph, support), with the readout solved in closed form.

    ===================== ==========================================================
    site                  law
    ===================== ==========================================================
    order_score           Gumbel(ψ, 1)
    edge                  straight-through Bernoulli(σ(φ))
    intervention_target   straight-through Bernoulli(σ(ζ)), ζ = predictor(C_t), or known
    readout               Delta at the ridge solution on the support (Eq. 6)
    ===================== ==========================================================

    It is an `AutoGuide`: called with a `TaskBatch` it returns a dict of site values, and it can be
    appended to an `AutoGuideList` beside a guide for latents that a user added to the model. The
    mechanisms' parameters belong to the model; the guide only refers to them.

    Args:
        model: The program whose posterior this is.
        dag: Guide of the graph.
        adaptation: Support rows -> readout.
        predictor: Feature blocks -> target logits.
        temperature: Of the targets' straight-through relaxation.
        create_plates: As in `AutoGuide`.

    Source: Ong et al. 2025, Eq. 1, 3 and 6.
    """

    def __init__(
        self,
        model: MetaCaDIModel,
        *,
        dag: DAGGuide,
        adaptation: Adaptation,
        predictor: TargetPredictor,
        temperature: float = 1.0,
        create_plates: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(model, create_plates=create_plates)
        self.dag, self.adaptation, self.predictor = dag, adaptation, predictor
        self.temperature = temperature
        self._given: dict[str, Tensor] = {}

    def given(self, values: Mapping[str, Tensor]) -> "MetaCaDIGuide":
        """This guide with some sites fixed: they are not sampled, but what follows sees them.

        Use it with ``pyro.condition(model, values)``. The parameters are shared with this guide.

        Args:
            values: Site name -> value, for example `known_graph(adjacency)`.
        """
        # Not copy.copy: AutoGuide's pickling support, which that calls, forgets the model.
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, _given={**self._given, **values})
        return view

    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Sample every site for the tasks of `batch`, from their support rows only."""
        plates = self._create_plates(batch)
        values = {"order_score": self._sample("order_score", self.dag.order)}
        values["edge"] = self._sample("edge", lambda: self.dag.edge(values["order_score"]))
        logits, readout = self.infer_targets(
            batch, order_score=values["order_score"], edge=values["edge"]
        )
        with plates["tasks"]:
            values["intervention_target"] = self._sample(
                "intervention_target",
                lambda: (StraightThroughBernoulli if batch.known is None else PartlyKnownBernoulli)(
                    logits.unsqueeze(-2), temperature=self.temperature
                ).to_event(1),
            )
            values["readout"] = self._sample(
                "readout", lambda: dist.Delta(readout.unsqueeze(-3), event_dim=2)
            )
        return values

    def infer_targets(
        self, batch: TaskBatch, *, order_score: Tensor, edge: Tensor
    ) -> tuple[Float[Tensor, "*draw task variable"], Float[Tensor, "*draw task variable feature"]]:
        """Target logits ζ and readouts of every task, given a graph; nothing is sampled.

        The logits of known targets are infinite.
        """
        adjacency = self.model.adjacency(order_score, edge)
        given = self._given.get("readout")
        readouts = [] if given is None else [given.squeeze(-3)]
        logits, readout = in_pieces(
            partial(self._infer_targets, adjacency),
            (batch.support, batch.support_mask, *readouts),
            dims=(0, 0, -3)[: 2 + len(readouts)],
            joined_at=(-2, -3),
            size=batch.at_once,
        )
        return with_known(logits, batch.known), readout

    def _infer_targets(
        self, adjacency: Tensor, support: Tensor, mask: Tensor, readout: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same of some tasks, whose readout may be given."""
        mechanisms, inputs = self.model.mechanisms, self.model.inputs(support)
        features = mechanisms.features(inputs, adjacency)
        if readout is None:
            readout = self.adaptation(self.model, features, support, mask)
        # Predictions are in the units in which noise is additive, residuals in those of its scale.
        response, precision = self.model.linearize(support, features)
        blocks = feature_blocks(
            response,
            mask,
            observational=mechanisms.observe(inputs, adjacency),
            interventional=mechanisms.intervene(features, readout),
            precision=precision,
        )
        return self.predictor(blocks, mask), readout

    def median(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Most probable value of every site: the graph at the locations, targets by their sign."""
        with torch.no_grad():
            order_score = self._given.get("order_score", self.dag.order_loc)
            edge = self._given.get("edge", self.dag.most_probable_edges(order_score))
            logits, readout = self.infer_targets(batch, order_score=order_score, edge=edge)
            target = (logits > 0).to(order_score.dtype).unsqueeze(-2)
            return {
                "order_score": order_score.clone(),
                "edge": edge.clone(),
                "intervention_target": self._given.get("intervention_target", target),
                "readout": readout.unsqueeze(-3),
            }

    def _sample(self, name: str, law: Callable[[], dist.TorchDistribution]) -> Tensor:
        if name in self._given:
            return self._given[name]
        return pyro.sample(name, law())

    def _create_plates(self, batch: TaskBatch) -> dict[str, pyro.plate]:
        # The plates follow the batch, not the first batch ever seen: new tasks may be fewer.
        if self.master is not None or self.create_plates is not None:
            return super()._create_plates(batch)
        self.plates = {"tasks": task_plate(batch)}
        return self.plates
