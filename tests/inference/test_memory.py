"""The memory that a gradient step takes: measured on few tasks, true of many."""

import gc
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from pyro_metacadi.components import Components
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.guides import MAMLAdaptation, RidgeAdaptation
from pyro_metacadi.inference.memory import StepMemory, _kept, step_memory
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import Training, train
from tests.helpers import TINY, build, tiny_tasks

NEED = StepMemory(fixed=1000, held=10, computed=100, piece=50)


def batch_of(num_tasks, *, num_variables=3, rows=20):
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=(rows, num_variables)) for _ in range(num_tasks)]
    return TaskBatch.from_arrays(arrays)


ADAPTATIONS = pytest.mark.parametrize(
    "adaptation", [RidgeAdaptation, partial(MAMLAdaptation, parameters="all", num_steps=2)]
)


def loss_of(num_variables=3, **choices):
    chain = build(num_variables, **choices)
    return Components.resolve(**TINY).build_objective()(*chain)


@pytest.mark.parametrize(
    ("budget", "at_once"),
    # 1200 for 20 tasks, and of k at a time 100 k + 50 ceil(20 / k): 700 for 3, 650 for 4, ...
    [(3200, None), (3199, 18), (1850, 4), (1851, 4), (1899, 4), (1900, 5), (2000, 6)],
)
def test_as_many_tasks_are_computed_at_once_as_fit(budget, at_once):
    assert NEED.at_once(20, budget) == at_once


def test_a_budget_for_no_number_of_tasks_is_refused_with_the_least_that_would_do():
    assert NEED.least(20) == 1850
    with pytest.raises(ConfigError, match=r"at least 1,850 bytes.*20 tasks.*got 1,849.*tasks_per"):
        NEED.at_once(20, 1849)


@pytest.mark.parametrize("num_tasks", [4, 30])
@pytest.mark.parametrize("at_once", [None, 2])
@ADAPTATIONS
def test_what_few_tasks_keep_tells_what_many_keep(num_tasks, at_once, adaptation):
    with isolated(0):
        loss, batch = loss_of(adaptation=adaptation), batch_of(num_tasks)
        need = step_memory(loss, batch, support_size=3, query_size=8)
        rows = replace(batch.split(3, query_size=8), at_once=at_once)
        kept = _kept(loss, rows).num_bytes
    estimate = need.most(num_tasks)
    if at_once:
        estimate = need.fixed + num_tasks * need.held  # the rest is computed again, and not kept
    assert kept < estimate < 3 * kept + 20_000


def test_measuring_leaves_no_graph_of_gradients_behind():
    gc.collect()
    before = with_gradients()
    with isolated(0):
        step_memory(loss_of(), batch_of(4), support_size=4, query_size=4)
    gc.collect()
    assert with_gradients() == before


def with_gradients():
    return sum(type(it) is torch.Tensor and it.grad_fn is not None for it in gc.get_objects())


def test_measuring_draws_none_of_the_random_numbers():
    with isolated(0):
        loss, batch = loss_of(), batch_of(4)
        before = torch.random.get_rng_state()
        step_memory(loss, batch, support_size=3, query_size=8)
        assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("patience", [None, 2])
@ADAPTATIONS
def test_training_in_pieces_gives_the_same_parameters(patience, adaptation):
    tasks = TaskBatch.from_arrays(tiny_tasks(rows=(12, 9, 12, 7, 11, 8)).arrays)
    options = Training(num_steps=6, support_size=3, query_size=8, patience=patience, check_every=2)
    ends = []
    for generous in (True, False):
        with isolated(1):
            chain = build(adaptation=adaptation)
            objective = Components.resolve(**TINY).build_objective()
            need = step_memory(objective(*chain), tasks, support_size=3, query_size=8)
            memory = need.most(6) if generous else need.least(6)
            run = train(*chain, tasks, objective=objective, options=options, memory=memory)
        ends.append((run.history["loss"], chain.tensors()))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-5)
    for name, value in ends[0][1].items():
        torch.testing.assert_close(ends[1][1][name], value, rtol=1e-4, atol=1e-5)
