r"""Observational and interventional mechanisms of every variable (Eq. 2 and 4)."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from pyro_metacadi.errors import ConfigError

__all__ = ["Mechanisms", "VariableMLP"]

SHARED: Mapping[str, Tensor] = MappingProxyType({})
"""Nothing is a task's own."""

PARTS = ("readout", "interventional", "observational")
"""Of mechanisms, that may be each task's own."""


class VariableMLP(nn.Module):
    """One multi-layer perceptron per variable, each reading only its variable's parents.

    The parent mask is folded into the first layer's weights, so the inputs are never copied per
    variable: no ``[row, variable, variable]`` tensor exists.

    Args:
        num_variables: d.
        width: Hidden units of every layer and variable; the output features are as many.
        num_layers: Hidden layers, at least 1.
        shared_features: One network for all variables instead of one each (Eq. 4 as written).
    """

    def __init__(
        self,
        num_variables: int,
        *,
        width: int = 32,
        num_layers: int = 2,
        shared_features: bool = False,
    ) -> None:
        super().__init__()
        self.num_variables, self.width = num_variables, width
        copies = 1 if shared_features else num_variables
        fan_in = [num_variables] + [width] * (num_layers - 1)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(copies, size, width) * math.sqrt(2 / min(size, 8)))
            for size in fan_in
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.randn(copies, width) * (1.0 if k == 0 else 0.1))
            for k in range(num_layers)
        )

    def forward(
        self,
        x: Float[Tensor, "*#batch row variable"],
        adjacency: Float[Tensor, "*#batch parent child"],
    ) -> Float[Tensor, "*batch variable row feature"]:
        """Features of every variable from its parents' values.

        Parameters may have batch axes as well (`torch.func.functional_call`).

        Args:
            x: Values of all variables, standardised.
            adjacency: ``adjacency[j, i] = 1`` lets variable i read variable j.

        Returns:
            Features with the variable leading, as the batched products of the next layer want it.
        """
        # Slices of a ParameterList are new modules.
        (first, *weights), (start, *biases) = self.weights, self.biases
        masked = adjacency.transpose(-1, -2).unsqueeze(-1) * first
        hidden = (x.unsqueeze(-3) @ masked).add_(start.unsqueeze(-2))
        for weight, bias in zip(weights, biases, strict=True):
            hidden = (functional.silu(hidden) @ weight).add_(bias.unsqueeze(-2))
        return functional.silu(hidden)


class Mechanisms(PyroModule):
    r"""The two mechanisms of every variable.

    * observational, :math:`f_i(A_i \circ x)`, all of whose layers are shared by the tasks;
    * interventional, :math:`f_i^I = w_i^\top h(A_i \circ x)`, whose last layer, the `readout` w, is
      each task's own. A constant feature gives it an intercept.

    Parameters may be made each task's own: the methods take what is, `adapted`, by the names of
    `shared`, one value for each task, ``[*draw, task, ...]``. Rows are those of all draws, or each
    draw's own.

    Args:
        num_variables: d.
        width: Hidden units; `num_features` is one more.
        num_layers: Hidden layers.
        shared_features: One feature extractor h for all variables (Eq. 4 writes h without i).
        penalty: Ridge penalty λ of Eq. 5, which is the prior precision of the `readout`.

    Raises:
        ConfigError: `penalty` is not positive, or there are no units or layers.

    Source: Ong et al. 2025, Eq. 2 and 4.
    """

    def __init__(
        self,
        num_variables: int,
        *,
        width: int = 32,
        num_layers: int = 2,
        shared_features: bool = False,
        penalty: float = 1.0,
    ) -> None:
        super().__init__()
        if not penalty > 0:
            raise ConfigError(f"penalty: expected a number > 0, got {penalty}. Try 1.0.")
        for name, value in (("width", width), ("num_layers", num_layers)):
            if value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}. Try 32 by 2.")
        self.penalty = penalty
        self.num_variables, self.num_features = num_variables, width + 1
        self.observational = VariableMLP(num_variables, width=width, num_layers=num_layers)
        self.interventional = VariableMLP(
            num_variables, width=width, num_layers=num_layers, shared_features=shared_features
        )
        self.readout = nn.Parameter(torch.zeros(num_variables, self.num_features))

    def shared(self, parts: Sequence[str]) -> dict[str, Tensor]:
        """What all tasks share, by the names under which it may be each task's own.

        Args:
            parts: Some of ``"readout"`` (of the interventional mechanisms: nothing is shared, which
                zeros stand for), ``"interventional"`` (their other layers) and ``"observational"``.

        Raises:
            ConfigError: There is no such part, or no ``"readout"``.
        """
        if not {"readout"} <= set(parts) <= set(PARTS):
            raise ConfigError(
                f"adapts: expected some of {', '.join(map(repr, PARTS))}, the first among them, "
                f"got {tuple(parts)}. Correct the adaptation's `adapts`."
            )
        return {name: value for part in parts for name, value in self._part(part).items()}

    def _part(self, part: str) -> dict[str, Tensor]:
        readout = self.readout  # every access is a Pyro statement
        if part == "readout":
            return {"readout": torch.zeros_like(readout)}
        last = {"observational_readout": readout} if part == "observational" else {}
        layers = getattr(self, part).named_parameters()
        return {**{f"{part}.{name}": value for name, value in layers}, **last}

    def observe(
        self,
        x: Float[Tensor, "*#draw task sample variable"],
        adjacency: Float[Tensor, "*#draw parent child"],
        adapted: Mapping[str, Tensor] = SHARED,
    ) -> Float[Tensor, "*draw task sample variable"]:
        r"""Observational prediction :math:`f_i(A_i \circ x)` of every variable."""
        hidden = self._hidden("observational", x, adjacency, adapted)
        readout = adapted.get("observational_readout")
        if readout is None:
            readout = self.readout.unsqueeze(0)
        weight = readout.transpose(-3, -2)
        # Rows of all tasks that share a readout are multiplied together.
        rows = hidden.unflatten(-3, (weight.shape[-2], -1)).flatten(-3, -2)
        value = (rows @ weight[..., :-1, None]).squeeze(-1) + weight[..., -1:]
        return value.unflatten(-1, (-1, x.shape[-2])).flatten(-3, -2).movedim(-3, -1)

    def features(
        self,
        x: Float[Tensor, "*#draw task sample variable"],
        adjacency: Float[Tensor, "*#draw parent child"],
        adapted: Mapping[str, Tensor] = SHARED,
    ) -> Float[Tensor, "*draw task variable sample feature"]:
        r"""Interventional features :math:`h(A_i \circ x)` with the constant appended."""
        hidden = self._hidden("interventional", x, adjacency, adapted)
        features: Tensor = _WithConstant.apply(hidden, self.num_features**-0.5)
        return features.transpose(-4, -3)

    def intervene(
        self,
        features: Float[Tensor, "*draw task variable sample feature"],
        readout: Float[Tensor, "*draw task variable feature"],
    ) -> Float[Tensor, "*draw task sample variable"]:
        r"""Interventional prediction :math:`w_i^\top h` of every variable."""
        # With the variable leading, as in memory, nothing is copied.
        by_variable = features.transpose(-4, -3) @ readout.transpose(-3, -2).unsqueeze(-1)
        return by_variable.squeeze(-1).movedim(-3, -1)

    def _hidden(
        self, part: str, x: Tensor, adjacency: Tensor, adapted: Mapping[str, Tensor]
    ) -> Float[Tensor, "*draw variable task sample feature"]:
        """Last hidden layer of a network: of all rows at once, unless each task has its own."""
        own = {
            name.removeprefix(f"{part}."): value
            for name, value in adapted.items()
            if name.startswith(f"{part}.")
        }
        network = getattr(self, part)
        if not own:
            return network(x.flatten(-3, -2), adjacency).unflatten(-2, x.shape[-3:-1])
        hidden = functional_call(network, own, (x, adjacency.unsqueeze(-3)))
        return hidden.transpose(-4, -3)


class _WithConstant(torch.autograd.Function):
    """Features times a number, and 1 appended, in one pass over memory each way."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        features = hidden.new_empty(*hidden.shape[:-1], hidden.shape[-1] + 1)
        torch.mul(hidden, factor, out=features[..., :-1])
        features[..., -1] = 1.0
        return features

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[..., :-1] * ctx.factor, None
