"""Two processes together fit what one does, and say so when they cannot."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_metacadi import MetaCaDI, TaskDataset, _ranks
from pyro_metacadi._ranks import agreed, gathered, joined, own_part, rank, together, world_size
from pyro_metacadi.cli import main
from pyro_metacadi.errors import MetaCaDIError
from tests import dying_process, two_processes
from tests.helpers import tiny_tasks, tiny_world

ROOT = Path(__file__).parents[1]


def torchrun(*command, processes=2):
    """The finished run of `command` (a script or -m module) in several processes."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
         str(processes), *map(str, command)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    done = torchrun(Path(two_processes.__file__), folder)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{index}.pt") for index in range(2)]


def test_one_process_has_all_of_the_work():
    with joined():
        assert (rank(), world_size()) == (0, 1)
        assert own_part([1, 2, 3]) == [1, 2, 3]
        assert gathered({1: 2}) == {1: 2}
        assert agreed("this") == "this"


@pytest.mark.parametrize(
    ("exchange", "call"), [("all_gather_object", gathered), ("broadcast_object_list", agreed)]
)
def test_a_process_that_ended_is_one_clear_error(exchange, call, monkeypatch):
    def closed(*_, **__):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:3456\nand a trace")

    monkeypatch.setattr(_ranks, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, exchange, closed)
    with pytest.raises(MetaCaDIError, match=r"all 2 to go on, got 'Connection closed .*3456'"):
        call({})


def test_two_share_the_work_and_what_they_find(found):
    assert found[0]["own"] == [0, 2, 4, 6]
    assert found[1]["own"] == [1, 3, 5]
    for one in found:
        assert one["gathered"] == {0: 0.5, 1: 1.5}
        assert one["agreed"] == 0


def test_scores_and_graphs_are_those_of_one_process(found):
    scores, graphs = torch.tensor(two_processes.scored()), two_processes.sampled()
    for one in found:
        torch.testing.assert_close(torch.tensor(one["scores"]), scores, rtol=1e-6, atol=1e-4)
        torch.testing.assert_close(one["graphs"], graphs)


def test_parameters_are_equal_in_all_processes(found):
    first, second = (one["parameters"] for one in found)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name])
    alone = two_processes.trained()
    assert any(not torch.equal(first[name], alone[name]) for name in first)


@pytest.mark.parametrize("kind", ["gradient", "gradient in pieces"])
def test_the_mean_gradient_of_two_halves_is_that_of_all_tasks(found, kind):
    everything = two_processes.gradient()
    for one in found:
        assert one[kind].keys() == everything.keys()
        for name, expected in everything.items():
            torch.testing.assert_close(one[kind][name], expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tasks.csv"
    tiny_world().tasks.to_dataframe().to_csv(path, index=False)
    return path


@pytest.mark.parametrize("engine", ["evidence", "svi"])
def test_the_command_fits_in_two_processes_and_one_of_them_writes(engine, table, tmp_path):
    done = torchrun(
        "-m", "pyro_metacadi", "fit", table, "--task", "task", "--engine", engine,
        "--steps", 20, "--out", tmp_path / "model", "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The model of 6 tasks") == 1
    assert (tmp_path / "model" / "edge_probs.csv").exists()


@pytest.mark.parametrize("engine", ["evidence", "svi"])
def test_a_process_that_dies_stops_the_others_and_leaves_the_earlier_model(engine, table, tmp_path):
    model = tmp_path / "model"
    command = ["fit", table, "--task", "task", "--engine", engine, "--steps", 20, "--quiet"]
    assert main([*map(str, command), "--out", str(model)]) == 0
    before = MetaCaDI.load(model).posterior.edge_probs.values
    done = torchrun(Path(dying_process.__file__), *command, "--out", model, "--overwrite")
    assert done.returncode != 0
    assert "metacadi: error: processes: expected all 2 to go on" in done.stderr
    assert "Traceback" not in done.stderr.split("metacadi: error")[0]
    np.testing.assert_array_equal(MetaCaDI.load(model).posterior.edge_probs.values, before)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_error_of_another_kind_is_not_taken_for_it(monkeypatch):
    monkeypatch.setattr(_ranks, "world_size", lambda: 2)
    with pytest.raises(RuntimeError, match="sizes differ"), together():
        raise RuntimeError("sizes differ")


def test_more_processes_than_tasks_are_refused(tmp_path):
    path = tmp_path / "tasks.csv"
    TaskDataset.from_arrays(tiny_tasks().arrays[:1]).to_dataframe().to_csv(path, index=False)
    done = torchrun(
        "-m", "pyro_metacadi", "fit", path, "--task", "task", "--engine", "svi",
        "--steps", 5, "--out", tmp_path / "model", "--quiet",
    )  # fmt: skip
    assert done.returncode != 0
    assert "expected at most one for each of the 1 tasks of a step, got 2" in done.stderr
    assert not (tmp_path / "model").exists()
