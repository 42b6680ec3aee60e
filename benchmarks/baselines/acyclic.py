"""How far graphs are from having no cycle, and the strongest edges that have none."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_metacadi.typing import Array

__all__ = ["cyclicity", "strongest_dag"]


def cyclicity(graphs: Float[Tensor, "*graph parent child"]) -> Float[Tensor, "*graph"]:
    """Zero of a graph without cycles, above zero of others: tr((I + G / d)^d) - d."""
    d = graphs.shape[-1]
    power = torch.linalg.matrix_power(torch.eye(d, dtype=graphs.dtype) + graphs / d, d)
    return power.diagonal(dim1=-2, dim2=-1).sum(-1) - d


def strongest_dag(strengths: Float[Array, "parent child"]) -> Int[Array, "parent child"]:
    """Edges of strengths above zero, strongest first, but those that would close a cycle."""
    reach, dag = np.eye(len(strengths), dtype=bool), np.zeros(strengths.shape, dtype=int)
    for at in np.argsort(-strengths, axis=None, kind="stable"):
        parent, child = np.unravel_index(at, strengths.shape)
        if strengths[parent, child] > 0 and not reach[child, parent]:
            dag[parent, child] = 1
            reach |= reach[:, [parent]] & reach[[child]]
    return dag
