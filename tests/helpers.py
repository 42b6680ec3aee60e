"""Tiny data, models and fits that several test files share."""

import random
from functools import cache, partial

import numpy as np
import pyro
import torch
from pyro import poutine

from pyro_metacadi import MetaCaDI, TaskDataset, simulators
from pyro_metacadi.components import Components
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.guides import FlattenedDeepSets
from pyro_metacadi.inference.draws import SVIChain
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import Training
from pyro_metacadi.models import Mechanisms

TINY = {
    "mechanisms": partial(Mechanisms, width=4),
    "predictor": partial(FlattenedDeepSets, embedding=4, hidden=8, probability=0.3),
    "training": Training(num_steps=4, support_size=3, query_size=8, patience=None),
}


def tiny_estimator(**choices):
    return MetaCaDI(**{"engine": "svi", **TINY, **choices})


def tiny_tasks(*, rows=(12, 9, 12, 7), num_variables=3, seed=0):
    """Random tasks; in task t the variable t (modulo d) is shifted."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, num_variables)) for n in rows]
    for t, array in enumerate(arrays):
        array[:, t % num_variables] += 2.0
    return TaskDataset.from_arrays(arrays)


def counts_of(tasks, *, seed=0):
    """Counts of rows of unequal depth, whose rates are exponential functions of the tasks' values.

    Their dispersion is 1 / 5, beside what the values differ.
    """
    rng = np.random.default_rng(seed)
    d = len(tasks.variables)
    arrays = []
    for rows in tasks.arrays:
        depth = rng.lognormal(3.0, 0.4, (len(rows), 1))
        rate = depth * np.exp(0.6 * rows + np.linspace(-0.5, 0.5, d))
        arrays.append(rng.poisson(rate * rng.gamma(5.0, 0.2, rows.shape)).astype(float))
    return TaskDataset.from_arrays(arrays, variables=tasks.variables, tasks=tasks.tasks)


@cache
def fitted(num_chains=1):
    """A model fitted for a few steps; shared, so leave it as it is."""
    return tiny_estimator().fit(tiny_tasks(), num_chains=num_chains, progress=False)


def evidence_estimator(*, num_draws=60, warmup=20, num_chains=2, **choices):
    """The evidence engine with few draws: a fit of `tiny_world` takes about a second."""
    sampling = Sampling(num_draws, warmup, num_chains)
    return MetaCaDI(engine="evidence", sampling=sampling, **choices)


@cache
def tiny_world():
    """Four variables, six tasks of 30 rows and one target; shared, so leave it as it is."""
    return simulators.gp_anm(num_variables=4, num_tasks=6, num_samples=30, seed=0)


@cache
def evidence_fit(num_chains=2):
    """A model of `tiny_world`; shared, so leave it as it is."""
    return evidence_estimator(num_chains=num_chains).fit(tiny_world().tasks, progress=False)


def tiny_batch(*, rows=(9, 6), num_variables=3, seed=0, dtype=torch.float32):
    """Tasks of unequal size, split into three support rows and the rest; some of it is padding."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, num_variables)) for n in rows]
    batch = TaskBatch.from_arrays(arrays, dtype=dtype)
    return batch.split(3, generator=torch.Generator().manual_seed(seed))


def build(num_variables=3, **choices):
    """A model and its guide in general position: no parameter is left at zero."""
    chain = Components.resolve(**{**TINY, **choices}).build(num_variables)
    with torch.no_grad():
        for parameter in (*chain.model.parameters(), *chain.guide.parameters()):
            parameter.add_(0.5 * torch.randn(parameter.shape))
    return chain


def tiny_chain(num_variables=3, *, seed=0, **choices):
    """`build` for use inside `isolated`."""
    with isolated(seed):
        return build(num_variables, **choices)


def traces(chain: SVIChain, batch, *, seed=0, model=None):
    """Guide trace and the model trace replayed on it, with log densities."""
    with isolated(seed):
        guide_trace = poutine.trace(chain.guide).get_trace(batch)
        replayed = poutine.replay(model or chain.model, trace=guide_trace)
        model_trace = poutine.trace(replayed).get_trace(batch)
        model_trace.compute_log_prob()
        guide_trace.compute_log_prob()
    return model_trace, guide_trace


def parameters(chain: SVIChain):
    """Every parameter of model and guide by a unique name."""
    return {
        f"{part}.{name}": value
        for part, module in chain._asdict().items()
        for name, value in module.named_parameters()
    }


def state(chain: SVIChain):
    """Bytes of every parameter and buffer of model and guide."""
    return {
        f"{part}.{name}": value.detach().cpu().numpy().tobytes()
        for part, module in chain._asdict().items()
        for name, value in module.state_dict().items()
    }


def random_states():
    """State of every generator that belongs to the caller, comparable with ==."""
    numpy_state = np.random.get_state()[1]  # noqa: NPY002
    return random.getstate(), numpy_state.tobytes(), torch.get_rng_state().numpy().tobytes()


def random_dag(num_variables, *, seed):
    """A DAG in a random order, about half of all possible edges."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(0, 2, (num_variables, num_variables)), 1)
    order = rng.permutation(num_variables)
    return torch.as_tensor(upper[np.ix_(order, order)], dtype=torch.float32)


def given_draws(num_draws):
    """The plate that vectorised draws live in."""
    return pyro.plate("draws", num_draws, dim=-3)
