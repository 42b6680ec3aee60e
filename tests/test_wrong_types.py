"""Arguments of another type than annotated are named, also where nobody checks annotations.

The other tests run under a hook that checks annotations at every call; users do not, so these calls
are made in a process of their own.
"""

import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np, xarray as xr
from pyro_metacadi import TaskDataset, errors, load_sachs, plots, simulators
from pyro_metacadi.simulators import World

size = {"num_variables": 2, "num_tasks": 1, "num_samples": 3, "seed": 0}
world, sachs, gp_anm = simulators.gp_anm(**size), load_sachs(), simulators.gp_anm
probs = xr.DataArray(np.zeros((2, 2)), dims=("parent", "child"))
rows = np.zeros((1, 2))
for line in CALLS.splitlines():
    try:
        eval(line)
    except errors.MetaCaDIError as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("nothing")
"""

PATH = "expected a path, got 5 "
AXES = "edge_probs: expected a DataArray over parent and child, got "
CASES = {
    "TaskDataset.from_csv(5, task='task')": f"DataError: file: {PATH}",
    "world.save(5)": f"DataError: folder: {PATH}",
    "World.load(5)": f"DataError: folder: {PATH}",
    "world.tasks.align(None)": "DataError: variables: expected a sequence of names, got None",
    "world.log_prob(rows, [0, 0], task='0')": "ConfigError: task: expected an integer of at least",
    "world.log_prob(rows, [0, 0], task=0.5)": "ConfigError: task: expected an integer of at least",
    "gp_anm(**size, expected_edges='3')": "ConfigError: expected_edges: expected a finite number",
    "gp_anm(**size, intervention=['do'])": "ConfigError: intervention: expected one of 'hard'",
    "sachs.intervention_targets(['u0126'])": "DataError: tasks: expected a TaskDataset, got list",
    "sachs.intervention_targets(convention=['reagent'])": "ConfigError: convention: expected 'rea",
    "plots.edge_heatmap(rows)": f"DataError: {AXES}ndarray",
    "plots.edge_heatmap(None)": f"DataError: {AXES}NoneType",
    "plots.edge_heatmap(world)": f"DataError: {AXES}World",
    "plots.edge_heatmap(probs[0])": "DataError: edge_probs: expected the axes parent, child, got",
    "plots.edge_heatmap(probs.astype(str))": "DataError: edge_probs: expected numbers, got '0.0'",
    "plots.save_figure(plots.edge_heatmap(probs), 5)": f"ConfigError: figure path: {PATH}",
}


@pytest.fixture(scope="module")
def messages():
    code = f"CALLS = {chr(10).join(CASES)!r}{SCRIPT}"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return dict(zip(CASES, result.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("call", CASES)
def test_a_wrong_type_is_named(messages, call):
    assert messages[call].startswith(CASES[call])
