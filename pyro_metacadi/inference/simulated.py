r"""Rows drawn from a fitted chain's observational mechanisms, some variables held at values.

Graph by graph, parents before children (Pearl's truncated factorisation): a variable that is held
has its value, every other is drawn from its mechanism given its parents. The engine ``evidence``
draws the weights of every mechanism from their posterior, once for each graph drawn, and noise of
the fitted variance; the engine ``svi`` has one value of every parameter. Random numbers do not
depend on what is held: the same seed gives the same graphs, weights and noise, so that rows under
two interventions differ by the effect alone.

Source: Pearl, Causality, 2009, Section 3.2.
"""

from collections.abc import Mapping
from functools import singledispatch
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.draws import GraphDraws, SVIChain
from pyro_metacadi.inference.evidence_chain import EvidenceChain, EvidenceGraphs
from pyro_metacadi.inference.fitted_mechanisms import Joined
from pyro_metacadi.inference.seeds import isolated, stream_seed
from pyro_metacadi.inference.surroundings import Surroundings
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.metacadi import MetaCaDIModel
from pyro_metacadi.models.noise.counts import reads_counts
from pyro_metacadi.models.noise.protocol import Noise
from pyro_metacadi.ops.graphs import levels

__all__ = ["inputs_of", "simulate"]

MOST_FLOATS = 2**23
"""Features, or hidden units and weights, that are held at once."""

Held = Mapping[int, Float[Tensor, "*#row #setting"]]
"""Variable -> its value in every setting, or in every draw, row and setting; the model's units."""


@singledispatch
def simulate(
    chain: Any, graphs: Any, *, held: Held, beside: Surroundings, num_settings: int, seed: int
) -> Float[Tensor, "draw row setting variable"]:
    """Rows of every graph drawn, in each of several settings, in the model's units; float64.

    Args:
        chain: Fitted.
        graphs: Drawn from it.
        held: Values of the variables that are intervened on.
        beside: Covariates and depths ``[draw, row]``; they say how many rows.
        num_settings: How many values each of `held` has.
        seed: Of weights and noise.

    Raises:
        TypeError: A chain is of an engine that draws no rows.
        ConfigError: A noise model has no samples.
    """
    raise TypeError(f"simulate: no rows can be drawn from {type(chain).__name__}")


@simulate.register
@torch.inference_mode()
def _(
    chain: EvidenceChain,
    graphs: EvidenceGraphs,
    *,
    held: Held,
    beside: Surroundings,
    num_settings: int,
    seed: int,
) -> Float[Tensor, "draw row setting variable"]:
    evidence, mechanisms = chain.library.evidence, chain.library.mechanisms
    covariates = torch.as_tensor(beside.covariates, device=chain.device).unsqueeze(2)
    covariates = covariates.expand(-1, -1, num_settings, -1)
    x = _started(graphs.adjacency, beside, held, num_settings).to(chain.device)
    free = [family for family in graphs.families if family.variable not in held]
    for batch in evidence.batches(free, num_rows=len(evidence.rows.x)):
        mechanisms.of(batch)  # fitted together, which is faster than one by one
    for family, at, level in graphs.parents_first():
        if family.variable in held:
            continue
        one = mechanisms.of([family])
        chance = _Chance.of(one, evidence, (len(at), x.shape[1]), seed=(seed, *family, level))
        size = max(1, MOST_FLOATS // (one.projection.shape[-1] * x[0, ..., 0].numel()))
        for part, own in zip(at.to(chain.device).split(size), chance.split(size), strict=True):
            inputs = torch.cat([x[part], covariates[part]], -1)
            zero = -evidence.offset[family.variable] / evidence.scale[family.variable]
            x[part, ..., family.variable] = _drawn(one, inputs, own, zero=zero)
    return x


class _Chance(NamedTuple):
    """Random numbers behind the values of a variable; they do not depend on the settings."""

    weight: Float[Tensor, "draw output"]
    noise: Float[Tensor, "draw row 1"]
    presence: Float[Tensor, "draw row 1"]

    @classmethod
    def of(
        cls, one: Joined, evidence: MechanismEvidence, shape: tuple[int, int], *, seed: Any
    ) -> "_Chance":
        """Standard normal but for the first weight, that of the mean, which is 1; uniform."""
        num_outputs = one.projection.shape[-1]
        if evidence.hyperparameters.redrawn_share > 0:  # the rest is for hits
            num_outputs = 1 + (num_outputs - 1) // 2
        generator = torch.Generator().manual_seed(stream_seed(*seed) % 2**63)
        options: Any = {"generator": generator, "dtype": torch.float64}
        weight = torch.randn(shape[0], num_outputs, **options)
        weight[:, 0] = 1.0
        parts = weight, torch.randn(*shape, 1, **options), torch.rand(*shape, 1, **options)
        return cls(*(part.to(one.projection.device) for part in parts))

    def split(self, size: int) -> list["_Chance"]:
        """Of some draws after the others."""
        return [_Chance(*parts) for parts in zip(*(p.split(size) for p in self), strict=True)]


def _drawn(
    one: Joined,
    inputs: Float[Tensor, "draw row setting input"],
    chance: _Chance,
    *,
    zero: Float[Tensor, ""],
) -> Float[Tensor, "draw row setting"]:
    """Values of a family's variable: weights of each draw, noise of each row."""
    num_outputs = chance.weight.shape[-1]
    kernel = one.similarity(inputs.flatten(0, 2))
    output = kernel @ one.projection[..., :num_outputs] + one.constant[..., :num_outputs]
    output = output[0].unflatten(0, (len(inputs), -1))  # [draw, row and setting, output]
    prediction = (output @ chance.weight.unsqueeze(-1)).view(inputs.shape[:-1])
    if one.hurdle is None:
        return prediction + one.noise_variance.sqrt() * chance.noise
    return one.hurdle.value(prediction, uniform=chance.presence, normal=chance.noise, zero=zero)


@simulate.register
@torch.no_grad()
def _(
    chain: SVIChain,
    graphs: GraphDraws,
    *,
    held: Held,
    beside: Surroundings,
    num_settings: int,
    seed: int,
) -> Float[Tensor, "draw row setting variable"]:
    adjacency = graphs.adjacency
    x = _started(adjacency, beside, held, num_settings).to(chain.device)
    total = torch.as_tensor(beside.total, device=chain.device)
    width, d = chain.model.mechanisms.num_features, x.shape[-1]
    size = max(1, MOST_FLOATS // (d * width * (d + x.shape[1])))
    free = torch.tensor([at not in held for at in range(d)], device=chain.device)
    # Outside, Pyro would take a learned noise's parameters from its global store.
    with isolated(0, chain.device):
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            for setting in range(num_settings):
                x[part, :, setting] = _one_setting(
                    chain.model,
                    adjacency[part],
                    x[part, :, setting],
                    free=free,
                    total=total[part],
                    seed=stream_seed(seed, first),
                )
    return x


def _one_setting(
    model: MetaCaDIModel,
    adjacency: Float[Tensor, "draw parent child"],
    x: Float[Tensor, "draw row variable"],
    *,
    free: Bool[Tensor, " variable"],
    total: Float[Tensor, "draw row"],
    seed: int,
) -> Float[Tensor, "draw row variable"]:
    """Rows whose variables are drawn level by level, each with noise of the same seed."""
    level, mechanisms = levels(adjacency), model.mechanisms
    noise: Any = model.noise
    values = x.unsqueeze(1).to(adjacency.dtype)  # one task
    for depth in range(int(level.max()) + 1):
        here = (level == depth) & free
        if not here.any():
            continue
        inputs, sizes = inputs_of(noise, values, total)
        loc = mechanisms.observe(inputs, adjacency)
        features = values.new_empty(*loc.shape[:2], loc.shape[-1], loc.shape[2], 0)
        if getattr(noise, "reads_features", True):
            features = mechanisms.features(inputs, adjacency)
        with isolated(stream_seed(seed, depth), values.device):
            drawn = _sample(noise(loc, features, *sizes))
        values = torch.where(here[:, None, None], drawn, values)
    return values.squeeze(1).double()


def inputs_of(
    noise: Noise, values: Float[Tensor, "draw 1 row variable"], total: Float[Tensor, "draw row"]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What mechanisms read of rows, and what the law is told beside: of counts, the sizes."""
    if not reads_counts(noise):
        return values, ()
    size = total / noise.total if noise.library_size else torch.ones_like(total)
    size = size[:, None, :, None]
    return noise.inputs(values, size), (size.to(values.dtype),)


def _sample(law: Any) -> Tensor:
    try:
        drawn: Tensor = law.sample()
    except NotImplementedError as error:
        raise ConfigError(
            f"noise: expected a law that can be sampled, got {type(law).__name__}, which has no "
            f"sample(). Give it one, or use a noise model of pyro_metacadi.models.noise."
        ) from error
    return drawn


def _started(
    adjacency: Tensor, beside: Surroundings, held: Held, num_settings: int
) -> Float[Tensor, "draw row setting variable"]:
    """Rows of which only the variables that are held have their values."""
    x = torch.zeros(*beside.total.shape, num_settings, adjacency.shape[-1], dtype=torch.float64)
    for at, values in held.items():
        x[..., at] = values
    return x
