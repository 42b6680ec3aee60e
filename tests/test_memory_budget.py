"""`memory_budget`: the same results with less memory, and words where it cannot be done."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from pyro_metacadi import MetaCaDI, checks
from pyro_metacadi.checks import check_memory
from pyro_metacadi.cli import main
from pyro_metacadi.errors import ConfigError
from tests.helpers import evidence_estimator, tiny_estimator, tiny_tasks, tiny_world

ESTIMATORS = {"evidence": evidence_estimator, "svi": tiny_estimator}
CPU = torch.device("cpu")

PEAK = """
import ctypes, json, re, sys
from pathlib import Path
import numpy as np
import torch
from pyro_metacadi import TaskDataset
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.engines.evidence_memory import evidence_memory
from pyro_metacadi.inference.evidence import evidence_of
from pyro_metacadi.models.families import Family

torch.set_num_threads(1)
families = [Family(3, 0b111), Family(2, 0b1011), Family(1, 0b1101), Family(0, 0b1110)]

def tasks_of(number):
    rows = np.random.default_rng(0).normal(size=(number, 20, 4))
    return TaskDataset.from_arrays(rows)

def evidence_for(tasks, memory):
    return evidence_of(tasks, Representation.fit(tasks), memory=memory)

def megabytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

evidence_for(tasks_of(10), None).scores(families)  # libraries are loaded
tasks = tasks_of(800)
memory = None if sys.argv[1] == "all" else evidence_memory(tasks).least
evidence = evidence_for(tasks, memory)
ctypes.CDLL("libc.so.6").malloc_trim(0)
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = megabytes("VmRSS")
scores = evidence.scores(families)
designs = evidence.held_designs(families)
for _ in range(2):
    fits = [evidence.fitted(*pair).score.sum().item() for pair in designs]
print(json.dumps({"scores": scores, "fits": sum(fits), "memory": (memory or 0) / 2**20,
                  "used": megabytes("VmHWM") - before}))
"""


@pytest.mark.parametrize("engine", ESTIMATORS)
def test_the_smallest_budget_gives_the_same_result(engine):
    tasks = tiny_world().tasks
    fits = []
    for which in ("least", "most"):
        model = ESTIMATORS[engine]()
        budget = getattr(model.memory_needed(tasks), which)
        fits.append(model.fit(tasks, memory_budget=budget, progress=False))
    for name in ("edge_probs", "target_probs"):
        left, right = (getattr(fit.posterior, name).values for fit in fits)
        np.testing.assert_allclose(left, right, atol=1e-5)
    new = tasks.take_rows(5, seed=0)
    left, right = (fit.adapt(new).target_probs.values for fit in fits)
    np.testing.assert_allclose(left, right, atol=1e-5)


@pytest.mark.parametrize("engine", ESTIMATORS)
def test_less_than_the_least_is_refused_and_an_earlier_fit_is_kept(engine):
    model, tasks = ESTIMATORS[engine](), tiny_tasks()
    least = model.memory_needed(tasks).least
    model.fit(tasks, memory_budget=least, progress=False)
    before = model.posterior.edge_probs
    with pytest.raises(ConfigError, match=rf"memory_budget: expected at least {least:,} bytes"):
        model.fit(tasks, memory_budget=least - 1, progress=False)
    assert model.posterior.edge_probs is before


def test_the_evidence_engine_names_the_task_that_does_not_fit():
    tasks = tiny_tasks(rows=(5, 12, 7))
    with pytest.raises(ConfigError, match=r"12 rows at once at task 'task2', got 10\. Raise it"):
        MetaCaDI().fit(tasks, memory_budget=10, progress=False)


def test_more_data_need_more_memory():
    for build in ESTIMATORS.values():
        few, many = (build().memory_needed(tiny_tasks(rows=(10,) * count)) for count in (4, 40))
        assert few.least <= few.most
        assert few.most < many.most


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (10, 10),
        (1.5e3, 1500),
        (np.int64(7), 7),
        ("10", 10),
        ("2kb", 2000),
        ("4GB", 4 * 10**9),
        (" 1.5 GiB ", 3 * 2**29),
    ],
)
def test_budgets_are_bytes_or_text(given, expected):
    assert check_memory(given, CPU) == expected


def test_half_of_the_memory_is_the_default(monkeypatch, tmp_path):
    alone = check_memory(None, CPU)
    assert 2**27 < alone < 2**50
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert check_memory(None, CPU) == alone // 4
    monkeypatch.setattr(checks, "CONTAINER_LIMIT", tmp_path / "memory.max")
    for written, expected in (("max", alone // 4), ("80000", 10_000)):
        checks.CONTAINER_LIMIT.write_text(f"{written}\n")
        assert check_memory(None, CPU) == expected


def test_the_least_is_accepted_where_targets_are_declared():
    for seed in range(4):
        tasks = tiny_tasks(seed=seed).declare("task2", hit=["X1"])
        model = tiny_estimator()
        model.fit(tasks, memory_budget=model.memory_needed(tasks).least, progress=False)


@pytest.mark.parametrize(
    "given", [0, -1, 0.5, True, float("nan"), float("inf"), "", "lots", "4 XB", "1e", [4], "-4GB"]
)
def test_what_is_no_budget_is_refused(given):
    with pytest.raises(ConfigError, match=r"memory_budget: expected a number of bytes or text"):
        MetaCaDI().fit(tiny_tasks(), memory_budget=given, progress=False)


def test_the_command_line_refuses_too_small_a_budget_in_one_line(tmp_path, capsys):
    table = tmp_path / "data.csv"
    tiny_tasks().to_dataframe().to_csv(table, index=False)
    command = ["fit", str(table), "--task", "task", "--out", str(tmp_path / "model"), "--quiet"]
    assert main([*command, "--memory", "1KB"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("metacadi: error: memory_budget: expected at least")
    assert error.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_a_budget_is_kept_to():
    found = {
        name: json.loads(
            subprocess.run(
                [sys.executable, "-c", PEAK, name], capture_output=True, text=True, check=True
            ).stdout
        )
        for name in ("all", "least")
    }
    assert found["least"]["scores"] == pytest.approx(found["all"]["scores"], rel=1e-6)
    assert found["least"]["fits"] == pytest.approx(found["all"]["fits"], rel=1e-6)
    assert found["least"]["used"] < 1.2 * found["least"]["memory"]
    assert found["least"]["used"] < found["all"]["used"] / 3
