"""Amortised prediction of a task's intervention targets (Eq. 3)."""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides.features import NUM_BLOCKS

__all__ = ["FlattenedDeepSets", "SharedDeepSets", "TargetPredictor"]


@runtime_checkable
class TargetPredictor(Protocol):
    """Feature blocks -> log-odds that each variable is a target."""

    def __call__(
        self,
        blocks: Float[Tensor, "*draw task support nine variable"],
        mask: Bool[Tensor, "task support"],
    ) -> Float[Tensor, "*draw task variable"]:
        """Logits ζ of every task; must not depend on the order of the rows."""
        ...


class FlattenedDeepSets(nn.Module):
    r"""The paper's predictor: ζ = g([z_ME, z_EM]) on all variables' blocks at once.

    A row's 9 d features are embedded by h; z_ME is the mean of the rows' embeddings and z_EM the
    embedding of the rows' mean. h and g are dense in the variables, so this predictor belongs to
    one set of variables in one order.

    Args:
        num_variables: d.
        embedding: k, the size of an embedding.
        hidden: Units of the hidden layers of h and g.
        probability: Probability of a target that the untrained predictor says.

    Raises:
        ConfigError: `probability` is not between 0 and 1.

    Source: Ong et al. 2025, Section 4.2; Zaheer et al. 2017.
    """

    def __init__(
        self,
        num_variables: int,
        *,
        embedding: int = 64,
        hidden: int = 128,
        probability: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(NUM_BLOCKS * num_variables, hidden), nn.SiLU(), nn.Linear(hidden, embedding)
        )
        logits = _logits(hidden, num_variables, probability=probability)
        self.decode = nn.Sequential(nn.Linear(2 * embedding, hidden), nn.SiLU(), logits)

    def forward(
        self,
        blocks: Float[Tensor, "*draw task support nine variable"],
        mask: Bool[Tensor, "task support"],
    ) -> Float[Tensor, "*draw task variable"]:
        """Logits ζ (see `TargetPredictor`)."""
        rows = blocks.flatten(-2)
        weight = _row_weight(mask, rows.dtype).unsqueeze(-1)
        mean_of_embeddings = (self.embed(rows) * weight).sum(-2)
        embedding_of_mean = self.embed((rows * weight).sum(-2))
        return self.decode(torch.cat([mean_of_embeddings, embedding_of_mean], dim=-1))


class SharedDeepSets(nn.Module):
    r"""One network for all variables: ζ_i = g([z_i, mean over j of z_j]), z_i = [z_ME,i, z_EM,i].

    A row's numbers about variable i are embedded by h; z_ME,i is the mean of the rows'
    embeddings and z_EM,i the embedding of the rows' mean. The mean over variables lets a task's
    deviations be judged against each other. Relabelling the variables relabels the logits, and no
    parameter depends on how many variables there are: what one variable's interventions teach, all
    know, and a state dict may be loaded at another d.

    Args:
        num_variables: d; unused.
        num_blocks: Numbers about each variable in a row; more where others are appended to the
            nine.
        embedding: k, the size of an embedding.
        hidden: Units of the hidden layers of h and g.
        probability: Probability of a target that the untrained predictor says.

    Raises:
        ConfigError: `probability` is not between 0 and 1.

    Source: Zaheer et al. 2017, of whose equivariant layers g is one; the blocks are those of Ong et
    al. 2025, Section 4.2.
    """

    def __init__(
        self,
        num_variables: int,
        *,
        num_blocks: int = NUM_BLOCKS,
        embedding: int = 32,
        hidden: int = 64,
        probability: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(num_blocks, hidden), nn.SiLU(), nn.Linear(hidden, embedding)
        )
        logits = _logits(hidden, 1, probability=probability)
        self.decode = nn.Sequential(nn.Linear(4 * embedding, hidden), nn.SiLU(), logits)

    def forward(
        self,
        blocks: Float[Tensor, "*draw task support nine variable"],
        mask: Bool[Tensor, "task support"],
    ) -> Float[Tensor, "*draw task variable"]:
        """Logits ζ (see `TargetPredictor`)."""
        rows = blocks.transpose(-1, -2)
        weight = _row_weight(mask, rows.dtype).unsqueeze(-1).unsqueeze(-1)
        mean_of_embeddings = (self.embed(rows) * weight).sum(-3)
        embedding_of_mean = self.embed((rows * weight).sum(-3))
        own = torch.cat([mean_of_embeddings, embedding_of_mean], dim=-1)
        everybody = own.mean(-2, keepdim=True).expand_as(own)
        return self.decode(torch.cat([own, everybody], dim=-1)).squeeze(-1)


def _logits(inputs: int, outputs: int, *, probability: float) -> nn.Linear:
    """A last layer that says `probability` as long as it is not trained."""
    if not 0 < probability < 1:
        raise ConfigError(
            f"probability: expected a number between 0 and 1, got {probability}. Try 0.1."
        )
    layer = nn.Linear(inputs, outputs)
    nn.init.constant_(layer.bias, math.log(probability / (1 - probability)))
    return layer


def _row_weight(
    mask: Bool[Tensor, "task support"], dtype: torch.dtype
) -> Float[Tensor, "task support"]:
    """What each row counts in a mean over its task's rows."""
    weight = mask.to(dtype)
    return weight / weight.sum(-1, keepdim=True).clamp(min=1.0)
