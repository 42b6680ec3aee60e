r"""The training objective, Eq. 7, and the strict ELBO it is derived from.

.. math:: L = \frac{1}{T} \sum_t (L_{R,t} + \lambda_I L_{I,t} + \lambda_H L_{H,t}) + \lambda_G L_G
"""

from abc import abstractmethod
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_metacadi.distributions import PartlyKnownBernoulli, PlackettLuce
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.ops.hsic import pairwise_hsic
from pyro_metacadi.ops.pieces import in_pieces

__all__ = ["ELBOObjective", "MetaCaDIObjective", "PaperObjective"]


class MetaCaDIObjective(TraceMeanField_ELBO):
    """A weighted sum of named terms of one model trace and one guide trace.

    Like every Pyro ELBO it is used as ``SVI(model, guide, optim, loss)``, or as an ``nn.Module``
    ``loss(model, guide)`` whose value is differentiated directly.

    Attributes:
        terms: The latest value of every term by name, unweighted, detached; summed over particles
            that were drawn together.
    """

    def __init__(self, **elbo_options: Any) -> None:
        super().__init__(**elbo_options)
        self.terms: dict[str, Tensor] = {}

    @abstractmethod
    def weighted_terms(
        self, model_trace: Trace, guide_trace: Trace
    ) -> dict[str, tuple[float, Tensor]]:
        """Name -> (weight, value) of every term that is not switched off."""

    def _differentiable_loss_particle(
        self, model_trace: Trace, guide_trace: Trace
    ) -> tuple[Tensor, Tensor]:
        _check_guided(model_trace, guide_trace)
        terms = self.weighted_terms(model_trace, guide_trace)
        self.terms = {name: value.detach() for name, (_, value) in terms.items()}
        loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return loss.detach(), loss

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Loss of one batch as a differentiable scalar, the mean over particles.

        Pyro's own version reads the value back to the host at every step; this one does not.
        """
        traces = self._get_traces(model, guide, args, kwargs)
        losses = [self._differentiable_loss_particle(*pair)[1] for pair in traces]
        return torch.stack(losses).sum() / self.num_particles


class PaperObjective(MetaCaDIObjective):
    r"""Eq. 7 with all four terms.

    * ``reconstruction`` :math:`L_R`: negative log-likelihood of a query row, averaged over the rows
      of a task, then over tasks. With Eq. 2's unit noise this is half the summed squared error plus
      a constant.
    * ``target_sparsity`` :math:`L_I`: averaged over tasks, either the l1 norm of the logits ζ as
      the paper writes it (smallest where every probability is 1/2), or the expected number of
      targets.
    * ``residual_dependence`` :math:`L_H`: HSIC of the query residuals, scaled to unit variance,
      averaged over pairs of variables and over tasks (0 for a task of fewer than four query rows).
    * ``graph_kl`` :math:`L_G`: KL(q(edge) || p(edge)).

    A weight of zero skips its term's cost. All weights are our choice: the paper's appendix with
    its own is not public. Log densities of other sites than `x` are not computed: a subclass that
    wants one calls the trace's ``compute_log_prob``.

    Args:
        target_weight: λ_I.
        target_sparsity: ``"logit"`` or ``"probability"``, see above.
        residual_weight: λ_H.
        residual_rows: Query rows per task that enter the HSIC; None takes all. Its mean hardly
            depends on this number, for the statistic is unbiased up to the estimated scale.
        graph_weight: λ_G.
        elbo_options: As in `pyro.infer.TraceMeanField_ELBO`, such as ``num_particles``.

    Source: Ong et al. 2025, Eq. 7.
    """

    def __init__(
        self,
        *,
        target_weight: float = 0.0005,
        target_sparsity: Literal["logit", "probability"] = "logit",
        residual_weight: float = 1.0,
        residual_rows: int | None = 32,
        graph_weight: float = 0.005,
        **elbo_options: Any,
    ) -> None:
        super().__init__(**elbo_options)
        if target_sparsity not in ("logit", "probability"):
            raise ConfigError(
                f"target_sparsity: expected 'logit' or 'probability', got {target_sparsity!r}."
            )
        self.target_weight, self.target_sparsity = target_weight, target_sparsity
        self.residual_weight, self.residual_rows = residual_weight, residual_rows
        self.graph_weight = graph_weight

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        if is_validation_enabled():
            return super()._get_trace(model, guide, args, kwargs)
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, guide_trace)).get_trace(*args, **kwargs)
        model_trace.compute_log_prob(lambda name, _: name == "x")
        return model_trace, guide_trace

    def weighted_terms(
        self, model_trace: Trace, guide_trace: Trace
    ) -> dict[str, tuple[float, Tensor]]:
        """The four terms of Eq. 7 (see `MetaCaDIObjective.weighted_terms`)."""
        terms = {"reconstruction": (1.0, reconstruction(model_trace))}
        if self.target_weight and "intervention_target" in guide_trace:
            sparsity = target_sparsity(guide_trace, self.target_sparsity)
            terms["target_sparsity"] = (self.target_weight, sparsity)
        if self.residual_weight:
            dependence = residual_dependence(model_trace, self.residual_rows)
            terms["residual_dependence"] = (self.residual_weight, dependence)
        if self.graph_weight and "edge" in guide_trace:
            terms["graph_kl"] = (self.graph_weight, site_kl(model_trace, guide_trace, "edge"))
        return terms


class ELBOObjective(MetaCaDIObjective):
    r"""The negative ELBO, term by term; equal to `pyro.infer.TraceMeanField_ELBO`.

    It is the ELBO of the batch's query rows, scaled up from its tasks to those that they were drawn
    from. With a `Training.query_size`, their likelihood is not scaled up to all rows (`MetaCaDI`
    takes all rows unless told otherwise).

    Args:
        order_kl: ``"gumbel"`` is the closed-form KL of the order *scores*, an upper bound on the KL
            of orders; ``"plackett_luce"`` is the latter, estimated from sampled orders.
        elbo_options: As in `pyro.infer.TraceMeanField_ELBO`.
    """

    def __init__(
        self,
        *,
        order_kl: Literal["gumbel", "plackett_luce"] = "gumbel",
        **elbo_options: Any,
    ) -> None:
        super().__init__(**elbo_options)
        if order_kl not in ("gumbel", "plackett_luce"):
            raise ConfigError(f"order_kl: expected 'gumbel' or 'plackett_luce', got {order_kl!r}.")
        self.order_kl = order_kl

    def weighted_terms(
        self, model_trace: Trace, guide_trace: Trace
    ) -> dict[str, tuple[float, Tensor]]:
        """Observed sites' log densities and latent sites' KL divergences, all of weight one."""
        terms = {}
        for name in model_trace.stochastic_nodes + model_trace.observation_nodes:
            site = node(model_trace, name)
            if site["infer"].get("_deterministic"):
                continue
            if site["is_observed"]:
                terms[name] = (1.0, -site["log_prob_sum"])
            elif name == "order_score" and self.order_kl == "plackett_luce":
                terms["kl_order"] = (1.0, order_kl(model_trace, guide_trace))
            else:
                terms[f"kl_{name}"] = (1.0, site_kl(model_trace, guide_trace, name))
        return terms


def _check_guided(model_trace: Trace, guide_trace: Trace) -> None:
    """Refuse latent sites that would stay as the prior draws them, whatever the data."""
    for name in model_trace.stochastic_nodes:
        if name not in guide_trace and not site_is_subsample(cast(Any, model_trace.nodes[name])):
            raise ConfigError(
                f"guide: expected one of every latent site, got none of {name!r}. Make it a "
                f"torch.nn.Parameter of its part, or guide it in an AutoGuideList."
            )


def node(trace: Trace, name: str) -> dict[str, Any]:
    """A trace's site; Pyro's own type leaves the contents of its entries open."""
    return cast(dict[str, Any], trace.nodes[name])


def reconstruction(model_trace: Trace) -> Float[Tensor, ""]:
    """Negative log-likelihood of a query row, averaged within tasks, then over tasks."""
    site = node(model_trace, "x")
    # Pyro's unscaled density is also unmasked: without this, padding rows would count.
    log_prob = scale_and_mask(site["unscaled_log_prob"], mask=site["mask"])
    rows = site["mask"].sum(-1).clamp(min=1)
    return -(log_prob.sum(-1) / rows).mean(-1).sum()


def target_sparsity(guide_trace: Trace, kind: Literal["logit", "probability"]) -> Float[Tensor, ""]:
    """L1 norm of the target logits, or of the probabilities, averaged over tasks.

    Known targets, of infinite logits, have no part in it.
    """
    logits = node(guide_trace, "intervention_target")["fn"].base_dist.logits
    size = logits.abs() if kind == "logit" else torch.sigmoid(logits)
    if isinstance(node(guide_trace, "intervention_target")["fn"].base_dist, PartlyKnownBernoulli):
        size = torch.where(logits.isinf(), 0.0, size)
    return size.sum(-1).squeeze(-1).mean(-1).sum()


def residual_dependence(model_trace: Trace, rows: int | None) -> Float[Tensor, ""]:
    """HSIC of the residuals of every pair of variables, averaged over pairs and tasks."""
    site, residual = node(model_trace, "x"), node(model_trace, "residual")["value"]
    # With every latent given, particles drawn together have one residual but count each.
    residual = residual.expand(*site["fn"].batch_shape, -1)[..., :rows, :]
    mask = site["mask"][..., :rows]
    weight = mask.unsqueeze(-1).to(residual.dtype)
    count = weight.sum(-2, keepdim=True).clamp(min=1.0)
    mean = (residual * weight).sum(-2, keepdim=True) / count
    centred = (residual - mean) * weight
    # Without the scale, shrinking the residuals would pass for independence. Clamped before the
    # root, whose derivative at 0 is infinite.
    variance = (centred.square().sum(-2, keepdim=True) / count).clamp(min=1e-12)
    (dependence,) = in_pieces(
        lambda values, rows: (pairwise_hsic(values, rows),),
        (centred / variance.sqrt(), mask),
        dims=(-3, -2),
        joined_at=(-3,),
        size=node(model_trace, "_INPUT")["args"][0].at_once,
    )
    d = dependence.shape[-1]
    between = dependence.sum((-1, -2)) - dependence.diagonal(dim1=-1, dim2=-2).sum(-1)
    return (between / max(1, d * (d - 1))).mean(-1).sum()


def site_kl(model_trace: Trace, guide_trace: Trace, name: str) -> Float[Tensor, ""]:
    """KL(q || p) of one site: analytic where known, else from the sampled value."""
    site, prior = node(guide_trace, name), node(model_trace, name)
    try:
        divergence = kl_divergence(site["fn"], prior["fn"])
    except NotImplementedError:  # how torch says that no closed form is known for this pair
        for trace in (model_trace, guide_trace):
            trace.compute_log_prob(lambda other, _: other == name)
        return site["log_prob_sum"] - prior["log_prob_sum"]
    divergence = scale_and_mask(divergence, scale=site["scale"], mask=site["mask"])
    return torch.as_tensor(divergence).sum()


def order_kl(model_trace: Trace, guide_trace: Trace) -> Float[Tensor, ""]:
    """Monte Carlo KL of the guide's orders to the prior's, which is uniform unless it demands."""
    prior = node(model_trace, "order_score")
    prescribed = prior["infer"].get("prescribed")
    q, p = (
        PlackettLuce(site["fn"].base_dist.loc, prescribed=prescribed)
        for site in (node(guide_trace, "order_score"), prior)
    )
    return q.kl_to(p)
