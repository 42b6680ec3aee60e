"""`check_target_predictor`: whether target logits depend on a task's rows, and on nothing else."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_metacadi.guides.features import NUM_BLOCKS
from pyro_metacadi.guides.targets import TargetPredictor
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.testing.laws import (
    built,
    close,
    empty_store,
    finite_gradients,
    no_latent_sites,
    require,
    shaped,
)

__all__ = ["check_target_predictor"]

TASKS, ROWS = 4, 7
MASK_FIX = "Weigh rows by the mask, and divide by how many there are, not by the axis' length."


def check_target_predictor(
    factory: Callable[..., Any], *, num_variables: int = 3, seed: int = 0
) -> None:
    """Check a target predictor as it is before training; takes a moment.

    It is built from the number of variables; logits are finite, of one row as well, with or
    without leading axes of draws; padding, the order of rows and other tasks do not matter; the
    rows do; gradients are finite; there are no latent sites; Pyro's global
    store stays empty.

    Args:
        factory: Called as ``factory(num_variables)``.
        num_variables: d.
        seed: Of what is random.

    Raises:
        ConformanceError: A law is broken.
    """
    predictor = built("predictor", factory, TargetPredictor, num_variables, seed=seed)
    with empty_store("predictor"), isolated(seed):
        blocks = torch.randn(2, TASKS, ROWS, NUM_BLOCKS, num_variables)
        mask = torch.arange(ROWS) < torch.tensor([ROWS, 4, 1, 5]).unsqueeze(-1)
        no_latent_sites("predictor", predictor, blocks, mask)
        _check_shapes(predictor, blocks, mask)
        with torch.no_grad():
            _check_invariances(predictor, blocks[0], mask)
        blocks.requires_grad_()
        logits = predictor(blocks, mask)
        finite_gradients(logits, predictor, "predictor: logits", others=[blocks])


def _check_shapes(predictor: Any, blocks: Tensor, mask: Tensor) -> None:
    fix = "Return one logit per task and variable; index axes from the right (-1 is the variable)."
    shape = (TASKS, blocks.shape[-1])
    together = predictor(blocks, mask)
    shaped(predictor(blocks[0], mask), shape, "predictor: logits", fix=fix)
    shaped(together, (2, *shape), "predictor: logits of two draws", fix=fix)
    close(
        together[1],
        predictor(blocks[1], mask),
        "predictor: logits of draws together",
        rule="those of each draw",
        fix="Treat leading axes as independent.",
    )


def _check_invariances(predictor: Any, blocks: Tensor, mask: Tensor) -> None:
    logits = predictor(blocks, mask)
    shown = mask[..., None, None]
    close(
        predictor(torch.where(shown, blocks, 100.0), mask),
        logits,
        "predictor: logits with other values in padding",
        rule="the same logits",
        fix=MASK_FIX,
    )
    longer = torch.cat([blocks, torch.zeros_like(blocks[:, :3])], dim=1)
    none = torch.zeros_like(mask[:, :3])
    close(
        predictor(longer, torch.cat([mask, none], dim=1)),
        logits,
        "predictor: logits with more padding",
        rule="the same logits",
        fix=MASK_FIX,
    )
    order = torch.randperm(ROWS)
    close(
        predictor(blocks[:, order], mask[:, order]),
        logits,
        "predictor: logits of rows in another order",
        rule="the same logits",
        fix="Reduce over rows by a sum, a mean or a maximum.",
    )
    alone = torch.cat([predictor(blocks[t : t + 1], mask[t : t + 1]) for t in range(TASKS)])
    close(
        alone,
        logits,
        "predictor: logits of tasks one by one",
        rule="those of all together",
        fix="Do not normalise over tasks: a task is judged on its own.",
    )
    require(
        not torch.equal(predictor(blocks + shown * torch.randn_like(blocks), mask), logits),
        "predictor: logits of other rows",
        rule="other logits",
        got="the same",
        fix="Read the blocks.",
    )
