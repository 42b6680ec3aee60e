"""`check_adaptation`: whether readouts are learned from a task's support, and from nothing else."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_metacadi.guides.adaptation import Adaptation
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.models.mechanisms import Mechanisms
from pyro_metacadi.models.metacadi import MetaCaDIModel
from pyro_metacadi.models.noise.gaussian import GaussianNoise
from pyro_metacadi.models.priors import SparseGraphPrior
from pyro_metacadi.testing.laws import (
    built,
    close,
    empty_store,
    finite_gradients,
    require,
    shaped,
)

__all__ = ["check_adaptation"]

TASKS, ROWS = 4, 7
MASK_FIX = "Give rows outside the mask no weight."


def check_adaptation(factory: Callable[..., Any], *, num_variables: int = 3, seed: int = 0) -> None:
    """Check an adaptation with a model of Gaussian noise; takes a moment.

    It is built without arguments; readouts are finite, of one row as well, with or without leading
    axes of draws; padding, the order of rows and other tasks do not matter; the rows do; gradients
    reach features and model and are finite; Pyro's global store stays empty.

    Args:
        factory: Called without arguments.
        num_variables: d.
        seed: Of what is random.

    Raises:
        ConformanceError: A law is broken.
    """
    adaptation = built("adaptation", factory, Adaptation, seed=seed)
    with empty_store("adaptation"), isolated(seed):
        model = _model(num_variables)
        support = torch.randn(TASKS, ROWS, num_variables)
        mask = torch.arange(ROWS) < torch.tensor([ROWS, 4, 1, 5]).unsqueeze(-1)
        graphs = torch.randint(2, (2, num_variables, num_variables)).float().triu(1)
        features = model.mechanisms.features(support, graphs).detach()

        def adapt(features: Tensor, support: Tensor, mask: Tensor) -> Tensor:
            return adaptation(model, features, support, mask)

        _check_shapes(adapt, features, support, mask=mask)
        with torch.no_grad():
            _check_invariances(adapt, features[0], support, mask=mask)
        inputs = [features.requires_grad_(), support.requires_grad_()]
        readout = adapt(features, support, mask)
        finite_gradients(readout, model, "adaptation: readouts", others=inputs)


def _model(num_variables: int) -> MetaCaDIModel:
    mechanisms = Mechanisms(num_variables, width=4)
    return MetaCaDIModel(
        num_variables,
        mechanisms=mechanisms,
        noise=GaussianNoise(num_variables, mechanisms.num_features),
        graph_prior=SparseGraphPrior(num_variables),
    )


def _check_shapes(
    adapt: Callable[..., Tensor], features: Tensor, support: Tensor, *, mask: Tensor
) -> None:
    fix = "Return one readout per task and variable, with a number for each feature."
    shape = (TASKS, support.shape[-1], features.shape[-1])
    together = adapt(features, support, mask)
    shaped(adapt(features[0], support, mask), shape, "adaptation: readouts", fix=fix)
    shaped(together, (2, *shape), "adaptation: readouts of two draws", fix=fix)
    close(
        together[1],
        adapt(features[1], support, mask),
        "adaptation: readouts of draws together",
        rule="those of each draw",
        fix="Treat leading axes as independent.",
    )


def _check_invariances(
    adapt: Callable[..., Tensor], features: Tensor, support: Tensor, *, mask: Tensor
) -> None:
    readout = adapt(features, support, mask)
    hidden = ~mask
    close(
        adapt(
            features.masked_fill(hidden[:, None, :, None], 50.0),
            support.masked_fill(hidden.unsqueeze(-1), 100.0),
            mask,
        ),
        readout,
        "adaptation: readouts with other values in padding",
        rule="the same readouts",
        fix=MASK_FIX,
    )
    order = torch.randperm(ROWS)
    close(
        adapt(features[:, :, order], support[:, order], mask[:, order]),
        readout,
        "adaptation: readouts of rows in another order",
        rule="the same readouts",
        fix="Reduce over rows by sums.",
    )
    alone = [adapt(features[t : t + 1], support[t : t + 1], mask[t : t + 1]) for t in range(TASKS)]
    close(
        torch.cat(alone),
        readout,
        "adaptation: readouts of tasks one by one",
        rule="those of all together",
        fix="Adapt to each task on its own.",
    )
    require(
        not torch.equal(adapt(features, support + 1.0, mask), readout),
        "adaptation: readouts of other rows",
        rule="other readouts",
        got="the same",
        fix="Fit them to the support.",
    )
