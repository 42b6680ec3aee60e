"""What two processes do together, run by ``torchrun``; `test_ranks` compares it with one.

Usage: two_processes.py FOLDER; every process writes what it found to FOLDER/rank.pt.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pyro
import torch
from torch.nn.parallel import DistributedDataParallel

from pyro_metacadi._ranks import agreed, gathered, joined, own_part, rank, world_size
from pyro_metacadi.errors import MetaCaDIWarning
from pyro_metacadi.inference.objective import PaperObjective
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import Training
from pyro_metacadi.models.families import Family
from tests.helpers import (
    evidence_estimator,
    parameters,
    tiny_batch,
    tiny_chain,
    tiny_estimator,
    tiny_world,
)

SIZES = (9, 6, 9, 7)


def scored():
    """Log scores of some families."""
    evidence = evidence_estimator().fit(tiny_world().tasks, progress=False)._fit.scaling.evidence
    return evidence.with_resolution(1.0).scores(
        [Family(i, p) for i in range(2) for p in (0, 4, 12)]
    )


def sampled():
    """Graphs of chains."""
    model = evidence_estimator().fit(tiny_world().tasks, progress=False)
    return torch.stack([chain.adjacency for chain in model._fit.chains])


def trained():
    """Parameters after a few steps."""
    training = Training(num_steps=6, support_size=3, query_size=8, check_every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetaCaDIWarning)  # that six steps are few
        model = tiny_estimator(training=training).fit(tiny_world().tasks, progress=False)
    return {name: p.detach() for name, p in parameters(model._fit.chains[0]).items()}


def gradient(part=None, at_once=None):
    """Of the loss of some of four tasks, all sites given; all processes' mean under DDP.

    Of these tasks `at_once` are computed at a time.
    """
    with isolated(2):
        chain, batch = tiny_chain(), tiny_batch(rows=SIZES)
    with isolated(3):
        values = {name: value.detach() for name, value in chain.guide(batch).items()}
    if part is not None:
        batch = replace(batch.choose(part), population=None)
        graph = ("order_score", "edge")
        values = {k: v if k in graph else v[part] for k, v in values.items()}
    batch = replace(batch, at_once=at_once)
    model, guide = pyro.condition(chain.model, values), chain.guide.given(values)
    with isolated(0):
        loss = PaperObjective()(model, guide)
        loss.parts = torch.nn.ModuleList(chain)  # a conditioned model is no module
        if world_size() > 1:
            loss = DistributedDataParallel(loss, find_unused_parameters=True)
        loss(batch).backward()
    return {name: p.grad for name, p in parameters(chain).items() if p.grad is not None}


def main(folder):
    with joined():
        half = torch.tensor([[0, 3], [1, 2]])[rank()]
        found = {
            "own": own_part(list(range(7))),
            "gathered": gathered({rank(): rank() + 0.5}),
            "agreed": agreed(rank()),
            "scores": scored(),
            "graphs": sampled(),
            "parameters": trained(),
            "gradient": gradient(half),
            "gradient in pieces": gradient(half, at_once=1),
        }
        torch.save(found, Path(folder) / f"{rank()}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
