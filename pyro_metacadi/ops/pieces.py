"""Functions of tasks computed for some tasks at a time, so that memory suffices."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["in_pieces"]


def in_pieces(
    function: Callable[..., tuple[Tensor, ...]],
    tensors: Sequence[Tensor],
    *,
    dims: Sequence[int],
    joined_at: Sequence[int],
    size: int | None,
) -> tuple[Tensor, ...]:
    """Apply `function` to some tasks at a time, and join what it returns.

    What it computes on the way is not kept for gradients but computed a second time: memory for
    time. It must draw no random numbers.

    Args:
        function: Of tensors, to a tuple of tensors.
        tensors: With a dimension of tasks each.
        dims: Which it is, of each of `tensors`.
        joined_at: Which it is, of each result.
        size: Tasks at a time; None for all at once.
    """
    if size is None or size >= tensors[0].shape[dims[0]]:
        return function(*tensors)
    split = [tensor.split(size, dim) for tensor, dim in zip(tensors, dims, strict=True)]
    found = [
        checkpoint(function, *piece, use_reentrant=False, preserve_rng_state=False)
        for piece in zip(*split, strict=True)
    ]
    results = zip(zip(*found, strict=True), joined_at, strict=True)
    return tuple(torch.cat(parts, dim) for parts, dim in results)
