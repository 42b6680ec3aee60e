"""`check_adaptation`: whether a task's own is learned from its support, and from nothing else."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyro_metacadi.guides.adaptation import Adaptation
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models.mechanisms import Mechanisms
from pyro_metacadi.models.metacadi import MetaCaDIModel
from pyro_metacadi.models.noise.gaussian import GaussianNoise
from pyro_metacadi.models.predictions import Predictions
from pyro_metacadi.models.priors import SparseGraphPrior
from pyro_metacadi.testing.laws import (
    SHAPE_FIX,
    built,
    close,
    empty_store,
    finite_gradients,
    no_latent_sites,
    require,
    shaped,
)

__all__ = ["check_adaptation"]

TASKS, ROWS, WIDTH = 4, 7, 4
MASK_FIX = "Give rows outside the mask no weight."


def check_adaptation(factory: Callable[..., Any], *, num_variables: int = 3, seed: int = 0) -> None:
    """Check an adaptation with a model of Gaussian noise; takes a moment.

    It returns what it says it adapts, finite, of one row as well, with or without leading axes of
    draws; padding, the order of rows and other tasks do not matter; the rows do; gradients reach
    rows, graph and parameters and are finite; there are no latent sites; Pyro's global store stays
    empty.

    Args:
        factory: Called without arguments, but for ``num_variables`` and ``num_features`` if it has
            them.
        num_variables: d.
        seed: Of what is random.

    Raises:
        ConformanceError: A law is broken.
    """
    sizes = {"num_variables": num_variables, "num_features": WIDTH + 1}
    adaptation = built("adaptation", factory, Adaptation, seed=seed, **sizes)
    with empty_store("adaptation"), isolated(seed):
        model = _model(num_variables, adaptation.adapts)
        support = torch.randn(TASKS, ROWS, num_variables)
        mask = torch.arange(ROWS) < torch.tensor([ROWS, 4, 1, 5]).unsqueeze(-1)
        graphs = torch.randint(2, (2, num_variables, num_variables)).float().triu(1)

        def adapt(graph: Tensor, support: Tensor, mask: Tensor) -> Tensor:
            at = Predictions(model.mechanisms, support, graph)
            return _joined(adaptation(model, at, support, mask), model, graph, support)

        no_latent_sites("adaptation", adapt, graphs, support, mask)
        _check_draws(adapt, graphs, support, mask=mask)
        with torch.no_grad():
            _check_invariances(partial(adapt, graphs[0]), support, mask=mask)
        inputs = [graphs.requires_grad_(), support.requires_grad_()]
        if isinstance(adaptation, nn.Module):
            inputs.extend(adaptation.parameters())
        own = adapt(graphs, support, mask)
        finite_gradients(own, model, "adaptation: values", others=inputs)


def _model(num_variables: int, adapts: Sequence[str]) -> MetaCaDIModel:
    mechanisms = Mechanisms(num_variables, width=WIDTH)
    return MetaCaDIModel(
        num_variables,
        mechanisms=mechanisms,
        noise=GaussianNoise(num_variables, mechanisms.num_features),
        graph_prior=SparseGraphPrior(num_variables),
        adapts=adapts,
    )


def _joined(
    adapted: Any, model: MetaCaDIModel, graph: Tensor, support: Tensor
) -> Float[Tensor, "*draw task number"]:
    """All numbers that are a task's own, if their names and shapes are those of the model."""
    names = sorted(model.adapted_dims)
    require(
        isinstance(adapted, dict) and sorted(adapted) == names,
        "adaptation",
        rule=f"a dict with {names}",
        got=sorted(adapted) if isinstance(adapted, dict) else type(adapted).__name__,
        fix="Return what `adapts` says, by the names of model.adapted_dims.",
    )
    tasks = (*graph.shape[:-2], len(support))
    for name, shared in model.mechanisms.shared(model.adapts).items():
        shaped(adapted[name], (*tasks, *shared.shape), f"adaptation: {name}", fix=SHAPE_FIX)
    return torch.cat([value.flatten(len(tasks)) for value in adapted.values()], dim=-1)


def _check_draws(
    adapt: Callable[..., Tensor], graphs: Tensor, support: Tensor, *, mask: Tensor
) -> None:
    together = adapt(graphs, support, mask)
    for own, graph in zip(together, graphs, strict=True):
        close(
            own,
            adapt(graph, support, mask),
            "adaptation: values of draws together",
            rule="those of each draw",
            fix="Treat leading axes as independent.",
        )


def _check_invariances(adapt: Callable[..., Tensor], support: Tensor, *, mask: Tensor) -> None:
    own = adapt(support, mask)
    close(
        adapt(support.masked_fill(~mask.unsqueeze(-1), 100.0), mask),
        own,
        "adaptation: values with other rows in padding",
        rule="the same values",
        fix=MASK_FIX,
    )
    order = torch.randperm(ROWS)
    close(
        adapt(support[:, order], mask[:, order]),
        own,
        "adaptation: values of rows in another order",
        rule="the same values",
        fix="Reduce over rows by sums.",
    )
    alone = [adapt(support[t : t + 1], mask[t : t + 1]) for t in range(TASKS)]
    close(
        torch.cat(alone),
        own,
        "adaptation: values of tasks one by one",
        rule="those of all together",
        fix="Adapt to each task on its own.",
    )
    require(
        not torch.equal(adapt(support + 1.0, mask), own),
        "adaptation: values of other rows",
        rule="other values",
        got="the same",
        fix="Fit them to the support.",
    )
