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
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides.adaptation import Adaptation
from pyro_metacadi.guides.dag import DAGGuide
from pyro_metacadi.guides.features import feature_blocks
from pyro_metacadi.guides.targets import TargetPredictor
from pyro_metacadi.models.metacadi import MetaCaDIModel, task_plate
from pyro_metacadi.models.predictions import Predictions
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

    Adaptations of more than the readout have more sites like the last, see `Adaptation`.

    It is an `AutoGuide`: called with a `TaskBatch` it returns a dict of site values, and it can be
    appended to an `AutoGuideList` beside a guide for latents that a user added to the model. The
    mechanisms' parameters belong to the model; the guide only refers to them.

    Args:
        model: The program whose posterior this is.
        dag: Guide of the graph.
        adaptation: Support rows -> readout, and what else the model says is each task's own.
        predictor: Feature blocks -> target logits.
        temperature: Of the targets' straight-through relaxation.
        create_plates: As in `AutoGuide`.

    Raises:
        ConfigError: `adaptation` adapts other parts than the model says.

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
        if tuple(adaptation.adapts) != model.adapts:
            raise ConfigError(
                f"adaptation: expected one that adapts {model.adapts}, as the model says, got one "
                f"that adapts {tuple(adaptation.adapts)}. Pass its `adapts` to MetaCaDIModel."
            )
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
        logits, adapted = self.infer_targets(
            batch, order_score=values["order_score"], edge=values["edge"]
        )
        with plates["tasks"]:
            values["intervention_target"] = self._sample(
                "intervention_target",
                lambda: (StraightThroughBernoulli if batch.known is None else PartlyKnownBernoulli)(
                    logits.unsqueeze(-2), temperature=self.temperature
                ).to_event(1),
            )
            for name, value in self._as_sites(adapted).items():
                law = partial(dist.Delta, value, event_dim=self.model.adapted_dims[name])
                values[name] = self._sample(name, law)
        return values

    def infer_targets(
        self, batch: TaskBatch, *, order_score: Tensor, edge: Tensor
    ) -> tuple[Float[Tensor, "*draw task variable"], dict[str, Tensor]]:
        """Target logits ζ of every task, and what is its own, given a graph; nothing is sampled.

        The logits of known targets are infinite. What is a task's own, ``[*draw, task, ...]``, is
        adapted to its support: ``readout`` ``[*draw, task, variable, feature]``, ...
        """
        adjacency, dims = self.model.adjacency(order_score, edge), self.model.adapted_dims
        given = {n: self._given[n].squeeze(-1 - dims[n]) for n in dims if n in self._given}
        logits, *adapted = in_pieces(
            partial(self._infer_targets, adjacency, tuple(given)),
            (batch.support, batch.support_mask, *given.values()),
            dims=(0, 0, *(-1 - dims[name] for name in given)),
            joined_at=(-2, *(-1 - dim for dim in dims.values())),
            size=batch.at_once,
        )
        return with_known(logits, batch.known), dict(zip(dims, adapted, strict=True))

    def _infer_targets(
        self,
        adjacency: Tensor,
        names: tuple[str, ...],
        support: Tensor,
        mask: Tensor,
        *given: Tensor,
    ) -> tuple[Tensor, ...]:
        """The same of some tasks, of which some may be given, by these names."""
        mechanisms, dims = self.model.mechanisms, self.model.adapted_dims
        predictions = Predictions(mechanisms, self.model.inputs(support), adjacency)
        adapted = dict(zip(names, given, strict=True))
        if len(adapted) < len(dims):
            adapted = {**self.adaptation(self.model, predictions, support, mask), **adapted}
        features = predictions.features(adapted)
        # Predictions are in the units in which noise is additive, residuals in those of its scale.
        response, _ = self.model.linearize(support, features, mask)
        blocks = feature_blocks(
            response,
            mask,
            observational=predictions.observe(adapted),
            interventional=mechanisms.intervene(features, adapted["readout"]),
            residual=lambda loc: self.model.residual(support, loc, features),
        )
        return self.predictor(blocks, mask), *(adapted[name] for name in dims)

    def median(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Most probable value of every site: the graph at the locations, targets by their sign."""
        with torch.no_grad():
            order_score = self._given.get("order_score", self.dag.order_loc)
            edge = self._given.get("edge", self.dag.most_probable_edges(order_score))
            logits, adapted = self.infer_targets(batch, order_score=order_score, edge=edge)
            target = (logits > 0).to(order_score.dtype).unsqueeze(-2)
            return {
                "order_score": order_score.clone(),
                "edge": edge.clone(),
                "intervention_target": self._given.get("intervention_target", target),
                **self._as_sites(adapted),
            }

    def _as_sites(self, adapted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With a dimension for the plate of rows."""
        dims = self.model.adapted_dims
        return {name: value.unsqueeze(-1 - dims[name]) for name, value in adapted.items()}

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
