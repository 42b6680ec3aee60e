"""Laws that parts of every kind keep, and how a broken one is told."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from pyro_metacadi.errors import ConfigError, ConformanceError
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.parts import build_part, check_factory

__all__ = [
    "SHAPE_FIX",
    "ConformanceError",
    "built",
    "close",
    "empty_store",
    "finite_gradients",
    "no_latent_sites",
    "pyro_law",
    "require",
    "shaped",
    "telling",
]

SHAPE_FIX = "Broadcast over leading axes of draws: index axes from the right (-1 is the variable)."


def require(holds: bool | Tensor, what: str, *, rule: str, got: Any, fix: str) -> None:
    """Raise if a law does not hold.

    Raises:
        ConformanceError: ``<what>: expected <rule>, got <got>. <fix>``
    """
    if not bool(holds):
        raise ConformanceError(f"{what}: expected {rule}, got {got}. {fix}")


def built(name: str, factory: Any, kind: type, *sizes: int, seed: int, **names: Any) -> Any:
    """The part that a factory makes, if it makes the same twice from one seed.

    Further arguments by their `names` are for factories that have them.

    Raises:
        ConformanceError: It does not, or it makes something else.
    """
    parts, after = [], []
    with telling(name):
        for start in (seed, seed, seed + 1):
            with isolated(start):
                parts.append(build_part(name, check_factory(name, factory), kind, *sizes, **names))
                after.append(float(torch.rand(())))
    first, second, _ = (_state(part) for part in parts)
    same = first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)
    require(
        same and after[0] == after[1],
        f"{name}, built twice from one seed",
        rule="the same parameters and buffers",
        got="others",
        fix="Draw initial values from torch's global generator only.",
    )
    require(
        after[1] != after[2],
        f"{name}, built from two seeds",
        rule="random states that differ afterwards",
        got="the same",
        fix="Never seed in a constructor.",
    )
    return parts[0]


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Whatever a part raises is a law that it breaks: that it runs."""
    try:
        yield
    except ConformanceError:
        raise
    except ConfigError as error:
        raise ConformanceError(str(error)) from error
    except Exception as error:
        raise ConformanceError(
            f"{name}: expected no error, got {type(error).__name__} ({error}). Mend the last "
            f"line of yours in the traceback above; shapes must broadcast over leading axes."
        ) from error


@contextmanager
def empty_store(name: str) -> Iterator[None]:
    """Raise if what is done inside writes to Pyro's global store, or fails (see `telling`)."""
    store, fix = pyro.get_param_store(), "Keep parameters in the module (torch.nn.Parameter)."
    before = set(store.keys())
    with telling(name):
        try:
            yield
        except NotImplementedError as error:  # of a PyroModule, Pyro itself says so
            require("pyro.param" not in str(error), name, rule="no pyro.param", got="one", fix=fix)
            raise
    added = set(store.keys()) - before
    for key in added:
        del store[key]
    require(
        not added, f"{name}, in Pyro's param store", rule="no entries", got=sorted(added), fix=fix
    )


def shaped(value: Any, shape: Sequence[int], what: str, *, fix: str) -> None:
    """Raise unless it is a floating-point tensor of that shape."""
    found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
    require(found == list(shape), what, rule=f"shape {list(shape)}", got=found, fix=fix)
    finite = value.is_floating_point() and value.isfinite().all()
    require(finite, what, rule="finite floating-point values", got="others", fix=fix)


def pyro_law(value: Any, what: str) -> None:
    """Raise unless it is a distribution of Pyro's."""
    kind = type(value)
    require(
        isinstance(value, TorchDistributionMixin),
        what,
        rule="a distribution of pyro.distributions",
        got=f"{kind.__module__}.{kind.__qualname__}",
        fix="Import it from pyro.distributions, not from torch.",
    )


def no_latent_sites(what: str, part: Callable[..., Any], *inputs: Any) -> None:
    """Raise if a part that is called with these inputs samples sites of its own."""
    latent = poutine.trace(part).get_trace(*inputs).stochastic_nodes
    require(
        not latent,
        f"{what}: latent sites of its own",
        rule="none, which MetaCaDI would have no guide for",
        got=", ".join(map(repr, latent)),
        fix="Make it a torch.nn.Parameter, or train as docs/extending.md says.",
    )


def close(first: Tensor, second: Tensor, what: str, *, rule: str, fix: str) -> None:
    """Raise unless both are equal to rounding."""
    difference = float((first - second).detach().abs().max()) if first.numel() else 0.0
    same = torch.allclose(first, second, rtol=1e-4, atol=1e-5)
    require(same, what, rule=rule, got=f"a difference of {difference:.3g}", fix=fix)


def finite_gradients(value: Tensor, part: Any, what: str, *, others: Sequence[Tensor] = ()) -> None:
    """Raise unless gradients of the sum are finite, for all parameters of a part and `others`."""
    own = list(part.parameters()) if isinstance(part, nn.Module) else []
    leaves = [leaf for leaf in (*own, *others) if leaf.requires_grad]
    if not value.requires_grad or not leaves:
        require(
            not leaves,
            what,
            rule="a gradient",
            got="none",
            fix="Compute in torch, without .detach(), .item(), numpy or torch.no_grad.",
        )
        return
    # Other values may have been made of the same ones.
    gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True, retain_graph=True)
    finite = all(g is None or g.isfinite().all() for g in gradients)
    require(
        finite,
        what,
        rule="finite gradients",
        got="NaN or infinity",
        fix="Bound what is under a root, a logarithm or a division before, not after.",
    )


def _state(part: Any) -> dict[str, Tensor]:
    if not isinstance(part, nn.Module):
        return {}
    return {**dict(part.named_parameters()), **dict(part.named_buffers())}
