"""The generative program of Section 4 (Eq. 2): what the data are assumed to be."""

from collections.abc import Sequence
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.distributions import PartlyKnownBernoulli
from pyro_metacadi.models.mechanisms import Mechanisms
from pyro_metacadi.models.noise.counts import reads_counts, sizes_of
from pyro_metacadi.models.noise.protocol import Noise
from pyro_metacadi.models.priors import GraphPrior, constraints_of, sample_order_and_edges
from pyro_metacadi.ops.constraints import constrained_adjacency
from pyro_metacadi.ops.known import with_known
from pyro_metacadi.ops.pieces import in_pieces

__all__ = ["MetaCaDIModel", "task_plate", "without_plates"]


def without_plates(value: Tensor, *, event_dim: int) -> Tensor:
    """Drop the singleton `tasks` and `samples` dims that a global site has under a plate of draws.

    A graph site is ``[*event]``, or ``[draw, 1, 1, *event]`` when draws are vectorised.
    """
    if value.dim() <= event_dim:
        return value
    return value.squeeze(-event_dim - 1).squeeze(-event_dim - 1)


def task_plate(batch: TaskBatch) -> pyro.plate:
    """The plate of a batch's tasks; if they stand for more, densities are scaled up to those."""
    if batch.population is None:
        return pyro.plate("tasks", batch.num_tasks, dim=-2)
    # Which tasks does not matter to the plate, only how many: nothing else is indexed by it.
    chosen = torch.arange(batch.num_tasks, device=batch.x.device)
    return pyro.plate("tasks", batch.population, subsample=chosen, dim=-2)


class MetaCaDIModel(PyroModule):
    r"""Pyro program of the shared graph, every task's targets and mechanisms, and the data.

    Per variable i, task t and row n (Eq. 2):

    .. math:: x_i = (1 - m_{t,i})\, f_i(A_i \circ x) + m_{t,i}\, f^I_{t,i}(A_i \circ x) + \epsilon_i

    ===================== ======================================== =============================
    site                  prior                                    shape
    ===================== ======================================== =============================
    order_score           Gumbel(0, 1): uniform over orders        ``[variable]``
    edge                  `graph_prior`                            ``[parent, child]``
    intervention_target   Bernoulli(`target_prior`)                ``[task, 1, variable]``
    readout               Normal(0, penalty^-1/2), not scored      ``[task, 1, variable, feature]``
    x                     `noise` around Eq. 2, query rows only    ``[task, sample, variable]``
    ===================== ======================================== =============================

    A `graph_prior` that prescribes some of the order has scores of its own locations, see
    `pyro_metacadi.ops.constraints.GraphConstraints`.

    The readout is the guide's closed-form solution; scoring it as well would count the ridge
    penalty twice, so its log density is masked unless `score_readout`. If the mechanisms' other
    parameters are each task's own, too (`adapts`), each is a site like it, about the value that
    tasks share: ``interventional.weights.0`` is ``[task, 1, variable, parent, unit]``. Targets that
    are known (`TaskBatch.known`) are what they are, in the model and in the guide.

    Args:
        num_variables: d.
        mechanisms: Observational and interventional mechanisms; this model owns their parameters.
        noise: Noise model.
        graph_prior: Prior over edges.
        target_prior: Prior probability that a variable is a target.
        adapts: Parts of the mechanisms that are each task's own, see `Mechanisms.shared`.
        score_readout: Whether the prior of these parts counts in the log density.
        temperature: Of the order's relaxation in the backward pass.

    Raises:
        ConfigError: `adapts` names no part.

    Source: Ong et al. 2025, Section 4.
    """

    zero: Tensor

    def __init__(
        self,
        num_variables: int,
        *,
        mechanisms: Mechanisms,
        noise: Noise,
        graph_prior: GraphPrior,
        target_prior: float = 0.1,
        adapts: Sequence[str] = ("readout",),
        score_readout: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_variables = num_variables
        self.mechanisms, self.noise, self.graph_prior = mechanisms, noise, graph_prior
        self.target_prior, self.score_readout = target_prior, score_readout
        self.temperature, self.adapts = temperature, tuple(adapts)
        self.adapted_dims = {
            name: value.dim() for name, value in mechanisms.shared(self.adapts).items()
        }
        # Priors are built on a buffer, so that `.to(device)` and `.double()` move them too.
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, batch: TaskBatch) -> Float[Tensor, "*draw task sample variable"]:
        """Run the program on the query rows of `batch`; returns the `x` site's value."""
        adjacency = self.sample_graph()
        with task_plate(batch):
            target = pyro.sample("intervention_target", self._target_prior(batch))
            shared = self.mechanisms.shared(self.adapts)
            own = [pyro.sample(name, self._own_prior(value)) for name, value in shared.items()]
            with (
                pyro.plate("samples", batch.num_samples, dim=-1),
                poutine.mask(mask=batch.mask),  # type: ignore[call-overload]
            ):
                loc, features = in_pieces(
                    partial(self._predict, adjacency),
                    (batch.x, target, *own),
                    dims=(0, -3, *(-2 - dim for dim in self.adapted_dims.values())),
                    joined_at=(-3, -4),
                    size=batch.at_once,
                )
                residual = self.residual(batch.x, loc, features)
                pyro.deterministic("residual", residual, event_dim=1)
                law = self.law(loc, features, batch.x).to_event(1)
                return pyro.sample("x", law, obs=batch.x)

    @property
    def own_size(self) -> int:
        """Numbers that are one task's own."""
        return sum(value.numel() for value in self.mechanisms.shared(self.adapts).values())

    def sample_graph(self) -> Float[Tensor, "*draw parent child"]:
        """Sample `order_score` and `edge`; the adjacency they determine, rows being causes."""
        return self.adjacency(*self.sample_sites())

    def sample_sites(
        self,
    ) -> tuple[Float[Tensor, "*draw variable"], Float[Tensor, "*draw parent child"]]:
        """Sample `order_score` and `edge`."""
        zeros = self.zero.new_zeros(self.num_variables)
        return sample_order_and_edges(self.graph_prior, zeros)

    def adjacency(self, order_score: Tensor, edge: Tensor) -> Float[Tensor, "*draw parent child"]:
        """The graph that values of the two sites determine, with what the prior demands of it."""
        return constrained_adjacency(
            constraints_of(self.graph_prior),
            without_plates(order_score, event_dim=1),
            edge=without_plates(edge, event_dim=2),
            temperature=self.temperature,
        )

    def inputs(
        self,
        x: Float[Tensor, "task sample variable"],
        like: Float[Tensor, "task sample variable"] | None = None,
    ) -> Tensor:
        """What mechanisms read of rows: the rows, or of counts their standardised logarithms.

        Counts have the sizes of the rows `like`, if there are any.
        """
        if not reads_counts(self.noise):
            return x
        return self.noise.inputs(x, None if like is None else self.noise.size(like))

    def linearize(
        self,
        x: Float[Tensor, "task sample variable"],
        features: Tensor,
        mask: Bool[Tensor, "task sample"] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """`Noise.linearize` of rows, of counts given their sizes; which exist, where it matters."""
        sizes = sizes_of(self.noise, x)
        if mask is not None:
            sizes = tuple(size * mask.unsqueeze(-1) for size in sizes)
        return self.noise.linearize(x, features, *sizes)

    def residual(
        self, x: Float[Tensor, "task sample variable"], loc: Tensor, features: Tensor
    ) -> Float[Tensor, "*draw task sample variable"]:
        """What predictions leave of rows, in units of the noise's scale up to a constant."""
        if reads_counts(self.noise):
            return self.noise.residual(x, loc, features, self.noise.size(x))
        response, precision = self.linearize(x, features)
        residual = response - loc
        return residual if precision is None else residual * precision.sqrt()

    def law(
        self, loc: Tensor, features: Tensor, x: Float[Tensor, "task sample variable"]
    ) -> TorchDistributionMixin:
        """Law of rows x around predictions, of counts given their sizes."""
        return self.noise(loc, features, *sizes_of(self.noise, x))

    def _target_prior(self, batch: TaskBatch) -> dist.TorchDistribution:
        probability = self.zero.new_full((self.num_variables,), self.target_prior)
        if batch.known is None:
            return dist.Bernoulli(probability).to_event(1)
        log_odds = with_known(probability.logit().expand(batch.known.shape), batch.known)
        return PartlyKnownBernoulli(log_odds.unsqueeze(-2)).to_event(1)

    def _own_prior(self, shared: Tensor) -> dist.TorchDistribution:
        # A law makes a tensor of a number, on the host: a step on the GPU would wait for it.
        scale = self.zero.new_full((), self.mechanisms.penalty**-0.5)
        return dist.Normal(shared, scale).to_event(shared.dim()).mask(self.score_readout)

    def _predict(
        self, adjacency: Tensor, x: Tensor, target: Tensor, *own: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean of Eq. 2, observational or at a target interventional; features for the noise."""
        adapted = {
            name: value.squeeze(-1 - dim)
            for (name, dim), value in zip(self.adapted_dims.items(), own, strict=True)
        }
        inputs = self.inputs(x)
        features = self.mechanisms.features(inputs, adjacency, adapted)
        observational = self.mechanisms.observe(inputs, adjacency, adapted)
        interventional = self.mechanisms.intervene(features, adapted["readout"])
        if not getattr(self.noise, "reads_features", True):
            features = features[..., :0]  # nobody would read what memory may have no room for
        return torch.lerp(observational, interventional, target), features
