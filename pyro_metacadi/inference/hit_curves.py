"""What a chain expects of a variable in a task that hit it, along values of one parent."""

from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.inference.densities import hit_log_prob
from pyro_metacadi.inference.draws import GraphDraws, SVIChain
from pyro_metacadi.inference.evidence_chain import EvidenceChain, EvidenceGraphs
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.simulated import inputs_of
from pyro_metacadi.inference.user_units import Units, to_user
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["Asked", "hit_curve"]

MOST_ROWS, NUM_VALUES, MOST_FAMILIES = 30, 57, 4
"""Rows of the task that are looked at, values that the child may have, its likeliest parents."""

MARGIN = 0.2
"""Of the range of values, beyond it: cut off at a task's own rows, its mean would be moved."""

NUM_SAMPLES = 50


class Asked(NamedTuple):
    """Of which curve the values are wanted.

    Attributes:
        rows: Of the task, in the model's units, covariates last.
        parent: Has the values `along`; all else is as in the mean of the task's rows.
        child: The variable that was hit.
        along: In the model's units.
        units: Of the data.
    """

    rows: Float[np.ndarray, "row column"]
    parent: int
    child: int
    along: Float[np.ndarray, " value"]
    units: Units

    def restored(self, values: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """Values of the child in the user's units."""
        every = np.repeat(values[..., None], len(self.units.variables), axis=-1)
        return to_user(self.units, every)[..., self.child]


@singledispatch
def hit_curve(chain: Any, graphs: Any, asked: Asked) -> Float[np.ndarray, " value"]:
    """Mean of the child, in the user's units, given the task's rows and that it was hit.

    Args:
        chain: Fitted.
        graphs: Drawn from it; the mean is over these, too.
        asked: Of which curve.

    Raises:
        TypeError: A chain is of an engine that has no such mean.
    """
    raise TypeError(f"hit_curve: no curve is known for {type(chain).__name__}")


@hit_curve.register
@torch.inference_mode()
def _(
    chain: EvidenceChain,
    graphs: EvidenceGraphs,
    asked: Asked,
) -> Float[np.ndarray, " value"]:
    """Densities of the task with one more row, for every value that this row may have."""
    rows, parent, child, along, _ = asked
    evidence, mechanisms = chain.library.evidence, chain.library.mechanisms
    hyper, x = evidence.hyperparameters, evidence.rows.x[:, child].double()
    x = torch.cat([x, torch.as_tensor(rows[:, child]).to(x)])  # a new task may lie beyond training
    margin = MARGIN * (x.amax() - x.amin())
    zero = (-evidence.offset / evidence.scale)[child]
    least = x.amin() - margin if hyper.hurdle is None else zero
    values = torch.linspace(float(least), float(x.amax() + margin), NUM_VALUES)
    values = values.double().to(x.device)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).round().astype(int)]
    known, d = torch.as_tensor(rows, device=x.device), evidence.num_variables
    one = known.mean(0).repeat(len(along), NUM_VALUES, 1, 1)
    one[..., parent] = torch.as_tensor(along, device=x.device).view(-1, 1, 1)
    one[..., child] = values.view(1, -1, 1)
    with_one = torch.cat([known.expand(*one.shape[:2], -1, -1), one], 2).flatten(0, 1)
    flat = with_one.flatten(0, 1)
    tasks = TaskRows(flat[:, :d], flat[:, d:], (len(rows) + 1,) * len(with_one))
    index, counts = graphs.index[:, child].unique(return_counts=True)
    share = torch.zeros(len(along), NUM_VALUES, dtype=torch.float64, device=x.device)
    for at in counts.argsort(descending=True)[:MOST_FAMILIES]:
        made = mechanisms.predict(tasks, [[graphs.families[int(index[at])]]])
        density = hit_log_prob(made, hyper).view(len(along), NUM_VALUES)
        if hyper.hurdle is None:
            mass = density
        else:  # at zero it is a probability
            mass = density + torch.log(values.diff()[0])
            mass[:, 0] = density[:, 0]
        share += counts[at] * torch.softmax(mass, 1)
    weight = share.cpu().numpy()
    return weight @ asked.restored(values.cpu().numpy()) / weight.sum(1)


@hit_curve.register
@torch.no_grad()
def _(
    chain: SVIChain,
    graphs: GraphDraws,
    asked: Asked,
) -> Float[np.ndarray, " value"]:
    """Adapted to the task: means of samples of its interventional mechanisms."""
    rows, parent, child, along, _ = asked
    model, seen = chain.model, TaskBatch.from_arrays([rows], device=chain.device)
    at = torch.as_tensor(rows.mean(0), device=chain.device).repeat(1, len(along), 1)
    at[..., parent] = torch.as_tensor(along, device=chain.device)
    total = torch.as_tensor(rows.sum(1).mean(), device=chain.device).expand(1, len(along))
    parts = []
    with isolated(0, chain.device):  # a fixed seed: of samples whose mean is taken only
        for site in graphs.chunks(8):
            _, adapted = chain.guide.infer_targets(seen, **site)
            adjacency = model.adjacency(site["order_score"], site["edge"])
            inputs, sizes = inputs_of(model.noise, at.to(seen.x.dtype).unsqueeze(0), total)
            features = model.mechanisms.features(inputs[0], adjacency, adapted)
            loc = model.mechanisms.intervene(features, adapted["readout"])
            law = model.noise(loc, features, *sizes)
            samples = torch.stack([law.sample() for _ in range(NUM_SAMPLES)])
            parts.append(samples[..., child].double())
    drawn = torch.cat([part.flatten(0, -2) for part in parts]).cpu().numpy()
    return asked.restored(drawn).mean(0)
