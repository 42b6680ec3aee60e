"""`check_noise`: whether a noise model is a density that its linearisation agrees with."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models.noise.protocol import Noise
from pyro_metacadi.testing.counts import TYPICAL, GivenSizes, check_reading, is_of_counts
from pyro_metacadi.testing.laws import (
    SHAPE_FIX,
    built,
    empty_store,
    finite_gradients,
    no_latent_sites,
    pyro_law,
    require,
    shaped,
)

__all__ = ["check_noise"]

NUM_DRAWS, NUM_NODES = 4000, 4001
WRONG_MASS, WRONG_CDF, WRONG_MOMENT = 0.01, 0.04, 0.2


def check_noise(
    factory: Callable[..., Any], *, num_variables: int = 3, num_features: int = 4, seed: int = 0
) -> None:
    """Check a noise model as it is before training; takes a second.

    It is built from sizes; shapes broadcast over draws; the law of one value integrates to one,
    and draws follow it; `linearize` gives a residual of mean 0 and variance 1; gradients are
    finite, far out as well; vectorised particles work; there are no latent sites; Pyro's global
    store stays empty. One of counts is given counts of about 20 and their sizes; it scores whole
    numbers, what mechanisms read is finite, of rows without any count as well, and residuals of
    draws have mean 0 and variance 1.

    Args:
        factory: Called as ``factory(num_variables, num_features)``.
        num_variables: d.
        num_features: Features of a mechanism.
        seed: Of what is random.

    Raises:
        ConformanceError: A law is broken.
    """
    noise: Any = built("noise", factory, Noise, num_variables, num_features, seed=seed)
    of_counts = is_of_counts(noise)
    inputs = partial(_inputs, num_variables, num_features, of_counts=of_counts)
    with empty_store("noise"), isolated(seed):
        if of_counts:
            noise = GivenSizes(noise)
            check_reading(noise, *inputs())
        x, loc, features = inputs()
        no_latent_sites("noise", noise, loc, features)
        no_latent_sites("noise: linearize", noise.linearize, x, features)
        for draws in ((), (2,)):
            _check_shapes(noise, *inputs(draws=draws))
        _check_reading(noise, *inputs())
        with torch.no_grad():
            _check_law(noise, *inputs(rows=3, tasks=1))
            _check_linearize(noise, *inputs(rows=NUM_DRAWS, tasks=1))
        for distance in (1.0, 30.0):
            _check_gradients(noise, *inputs(scale=distance))
        _check_particles(noise, *inputs(draws=(5,)))


def _inputs(
    num_variables: int,
    num_features: int,
    *,
    of_counts: bool,
    draws: tuple[int, ...] = (),
    rows: int = 6,
    tasks: int = 2,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, predictions of them, and features, the last of which is constant."""
    x = scale * torch.randn(tasks, rows, num_variables)
    if of_counts:
        x = torch.poisson(TYPICAL * x.abs())
    loc = torch.randn(*draws, tasks, rows, num_variables)
    features = torch.randn(*draws, tasks, num_variables, rows, num_features)
    features[..., -1] = 1.0
    return x, loc, features


def _check_shapes(noise: Any, x: Tensor, loc: Tensor, features: Tensor) -> None:
    law, what = noise(loc, features), f"noise, of draws {list(loc.shape[:-3])}"
    pyro_law(law, f"{what}: law of x")
    require(
        (law.batch_shape, law.event_shape) == (loc.shape, ()),
        f"{what}: shape of the law",
        rule=f"batch shape {list(loc.shape)} and no event shape",
        got=f"{list(law.batch_shape)} and {list(law.event_shape)}",
        fix=SHAPE_FIX,
    )
    shaped(law.log_prob(x), loc.shape, f"{what}: log_prob", fix=SHAPE_FIX)
    shaped(law.sample(), loc.shape, f"{what}: sample", fix=SHAPE_FIX)
    pair = noise.linearize(x, features)
    require(
        isinstance(pair, tuple) and len(pair) == 2,
        f"{what}: linearize",
        rule="a tuple (response, precision)",
        got=type(pair).__name__,
        fix="Return x, None where the response is x and the noise's variance 1.",
    )
    response, precision = pair
    for name, value in (("response", response), ("precision", precision)):
        if value is not None:
            wide = value if value.dim() > loc.dim() else _expanded(value, loc.shape)
            shaped(wide, loc.shape, f"{what}: {name} of linearize", fix=SHAPE_FIX)
    require(
        precision is None or (precision > 0).all(),
        f"{what}: precision of linearize",
        rule="positive values, or None for 1",
        got="others",
        fix="Give one over the noise's variance in units of the response.",
    )


def _check_reading(noise: Any, x: Tensor, loc: Tensor, features: Tensor) -> None:
    """One that says that it reads no features is given none in training."""
    if getattr(noise, "reads_features", True):
        return
    said = []
    for given in (features, torch.zeros_like(features), features[..., :0]):
        try:
            said.append(noise(loc, given).log_prob(x))
        except (RuntimeError, IndexError):  # how torch says that a width does not fit
            said.append(torch.full_like(loc, torch.nan))
    require(
        all(torch.equal(said[0], other) for other in said[1:]),
        "noise: reads_features",
        rule="False only where the law is the same whatever the features",
        got="a law that changes with them",
        fix="Set reads_features = True in the class.",
    )


def _expanded(value: Tensor, shape: torch.Size) -> Tensor:
    try:
        return value.expand(shape)
    except RuntimeError:  # how torch says that it does not broadcast; the shape is told as it is
        return value


def _grid() -> tuple[Float[Tensor, " node"], Float[Tensor, " node"]]:
    """Nodes on the real line, and what each stands for: midpoints after a tangent."""
    u = (torch.arange(NUM_NODES, dtype=torch.float64) + 0.5) / NUM_NODES - 0.5
    return torch.tan(math.pi * u), math.pi / torch.cos(math.pi * u).square() / NUM_NODES


def _check_law(noise: Any, x: Tensor, loc: Tensor, features: Tensor) -> None:
    law = noise(loc, features)
    nodes, width = _grid()
    if law.support.is_discrete:
        nodes = torch.arange(NUM_NODES, dtype=torch.float64)
        width = torch.ones_like(nodes)
    values = nodes.float().reshape(-1, *[1] * loc.dim()).expand(-1, *loc.shape)
    mass = law.log_prob(values).double().exp() * width.reshape(-1, *[1] * loc.dim())
    total = mass.sum(0)
    worst = total.flatten()[(total - 1).abs().argmax()]
    require(
        (total - 1).abs().max() < WRONG_MASS,
        "noise: integral of the density over x",
        rule="1",
        got=f"{worst:.4f}",
        fix="Where x is a function of the noise, the density has its derivative in it.",
    )
    drawn = law.sample(torch.Size([NUM_DRAWS])).double()
    below = (mass.cumsum(0) - mass / 2).flatten(1)
    distance = 0.0
    for column, cdf in zip(drawn.flatten(1).mT, below.mT, strict=True):
        column = column.contiguous()
        share = torch.searchsorted(column.sort().values, nodes, right=law.support.is_discrete)
        distance = max(distance, float((share / NUM_DRAWS - cdf).abs()[1:-1].max()))
    require(
        distance < WRONG_CDF + float(mass.max() if law.support.is_discrete else 0),
        "noise: draws against the density",
        rule=f"distribution functions within {WRONG_CDF}",
        got=f"a distance of {distance:.3f}",
        fix="Let sample and log_prob speak of one law, in the same units.",
    )


def _check_linearize(noise: Any, x: Tensor, loc: Tensor, features: Tensor) -> None:
    loc = loc[:, :1].expand_as(loc)  # the rows differ in noise and features only
    drawn = noise(loc, features).sample()
    response, precision = noise.linearize(drawn, features)
    _check_moments(
        (response - loc) * (1.0 if precision is None else precision.sqrt()),
        "linearize, residuals of draws",
        unit="the precision",
        fix="Give ``response = f + noise / sqrt(precision)``, with noise of mean 0 and variance 1.",
    )
    if isinstance(noise, GivenSizes):
        _check_moments(
            noise.residual(drawn, loc, features),
            "residual, of draws",
            unit="the law's standard deviation",
            fix="Subtract the law's mean, and divide by its standard deviation.",
        )


def _check_moments(residual: Tensor, what: str, *, unit: str, fix: str) -> None:
    mean, variance = residual.mean(-2).abs().max(), residual.var(-2)
    require(
        mean < WRONG_MOMENT,
        f"noise: {what}",
        rule="mean 0",
        got=f"{mean:.2f}",
        fix=fix,
    )
    require(
        (variance - 1).abs().max() < WRONG_MOMENT,
        f"noise: {what} in units of {unit}",
        rule="variance 1",
        got=f"{variance.flatten()[(variance - 1).abs().argmax()]:.2f}",
        fix=fix,
    )


def _check_gradients(noise: Any, x: Tensor, loc: Tensor, features: Tensor) -> None:
    inputs = [loc.requires_grad_(), features.requires_grad_()]
    what = f"noise, at values up to {float(x.abs().max()):.0f}"
    finite_gradients(noise(loc, features).log_prob(x), noise, f"{what}: log_prob", others=inputs)
    response, precision = noise.linearize(x, features)
    for name, value in (("response", response), ("precision", precision)):
        if value is not None and value.requires_grad:
            finite_gradients(value, noise, f"{what}: {name}", others=inputs)


def _check_particles(noise: Any, x: Tensor, loc: Tensor, features: Tensor) -> None:
    """Under the plates of draws, tasks and rows, as in `MetaCaDIModel`."""

    def program() -> None:
        with (
            pyro.plate("draws", 5, dim=-3),
            pyro.plate("tasks", 2, dim=-2),
            pyro.plate("samples", x.shape[-2], dim=-1),
        ):
            pyro.sample("x", noise(loc, features).to_event(1), obs=x)

    trace = poutine.trace(program).get_trace()
    trace.compute_log_prob()
    shaped(
        trace.nodes["x"]["log_prob"],
        (5, *x.shape[:-1]),
        "noise: log_prob of rows in a Pyro model with vectorised particles",
        fix=SHAPE_FIX,
    )
