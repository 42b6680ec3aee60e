"""Fits to tasks on disk are those to the same tasks in memory, and need no memory for them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.data import lazy_batch
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.lazy_batch import batch_of
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.errors import MetaCaDIWarning, ModelFileError
from pyro_metacadi.inference import stopping, training
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.stopping import hold_out
from pyro_metacadi.inference.training import Training, held_out_loss
from tests.helpers import state, tiny_chain, tiny_estimator, tiny_tasks

ROWS = (12, 9, 12, 7, 3, 1, 2, 20)
OPTIONS = Training(num_steps=6, tasks_per_step=3, support_size=3, query_size=4, check_every=2)


def on_disk(tasks, folder):
    np.save(folder / "rows.npy", tasks.values)
    names = {"variables": tasks.variables, "tasks": tasks.tasks}
    return TaskDataset.from_memmap(folder / "rows.npy", num_rows=tasks.num_rows, **names)


@pytest.fixture
def mapped(tmp_path):
    return on_disk(tiny_tasks(rows=ROWS), tmp_path)


def fit(tasks, options=OPTIONS, **arguments):
    with pytest.warns(MetaCaDIWarning):  # tasks of one row, and the held-out loss still falls
        return tiny_estimator(training=options).fit(tasks, progress=False, seed=3, **arguments)


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        Training(num_steps=4, support_size=3, query_size=None, patience=None),
        Training(num_steps=4, support_size=3, query_size=None, tasks_per_step=2, held_out=0.5),
        Training(num_steps=4, support_size=50, query_size=8, patience=1, check_every=1),
    ],
)
@pytest.mark.parametrize("part", [1, 60, 2**19])
def test_the_same_seed_gives_the_same_model(mapped, monkeypatch, options, part):
    monkeypatch.setattr(lazy_batch, "PART", part)
    first, second = fit(tiny_tasks(rows=ROWS), options), fit(mapped, options)
    assert [state(chain) for chain in second._fit.chains] == [
        state(chain) for chain in first._fit.chains
    ]
    for name, values in first.history.items():
        np.testing.assert_array_equal(second.history[name], values)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rows_on_disk_are_read_to_the_device(mapped):
    model = fit(mapped, device="cuda")
    assert model.posterior.target_probs.shape == (len(ROWS), 3)
    assert np.isfinite(model.history["held_out"]).all()


def test_few_of_many_tasks_are_measured_alike(mapped, monkeypatch):
    monkeypatch.setattr(stopping, "HELD_OUT_TASKS", 2)
    memory, disk = fit(tiny_tasks(rows=ROWS)), fit(mapped)
    np.testing.assert_array_equal(disk.history["held_out"], memory.history["held_out"])


def test_a_held_out_loss_of_parts_is_the_mean_of_theirs(monkeypatch):
    chain = tiny_chain()
    with isolated(1):
        _, held_out = hold_out(_batch(tiny_tasks(rows=ROWS)), 0.3, support_size=3)
    each = [held_out_loss(*chain, held_out.choose(torch.tensor([t]))) for t in range(6)]
    monkeypatch.setattr(training, "HELD_OUT_VALUES", 1)
    assert held_out.num_tasks == 6
    assert held_out_loss(*chain, held_out) == pytest.approx(np.mean(each), rel=1e-6)


def _batch(tasks):
    return batch_of(Standardizer.fit(tasks).transform(tasks), device="cpu")


@pytest.mark.parametrize("part", [1, 100])
def test_rows_on_disk_are_those_in_memory(mapped, monkeypatch, part):
    monkeypatch.setattr(lazy_batch, "PART", part)
    memory, disk = _batch(tiny_tasks(rows=ROWS)), _batch(mapped)
    assert isinstance(memory, TaskBatch)
    assert not isinstance(disk, TaskBatch)
    same(disk.read(), memory.read())
    index = torch.tensor([7, 0, 5])
    with isolated(0):
        first = memory.choose(index).split(3, query_size=5)
    with isolated(0):
        second = disk.choose(index).split(3, query_size=5)
    same(second, first)
    parts = [part.read() for part in disk.parts()]
    assert [n for one in parts for n in one.mask.sum(-1).tolist()] == list(ROWS)
    assert len(parts) == (8 if part == 1 else 4)
    for hold in (memory, disk):
        with isolated(0):
            left, held_out = hold_out(hold, 0.4, support_size=3)
            again = left.split(2)
        if hold is memory:
            expected = (held_out, again)
    same(held_out, expected[0])
    same(again, expected[1])


def same(first, second):
    for name in ("x", "mask", "support", "support_mask"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert first.population == second.population


def test_targets_and_draws_are_inferred_a_few_tasks_at_a_time(mapped, monkeypatch):
    monkeypatch.setattr(lazy_batch, "PART", 60)
    memory, disk = fit(tiny_tasks(rows=ROWS)).posterior, fit(mapped).posterior
    assert disk.edge_probs.identical(memory.edge_probs)
    np.testing.assert_allclose(disk.target_probs, memory.target_probs, atol=1e-5)
    assert disk.sample(3).sizes == memory.sample(3).sizes
    assert disk.sample(3).adjacency.identical(memory.sample(3).adjacency)
    np.testing.assert_allclose(
        disk.log_likelihood(num_draws=3), memory.log_likelihood(num_draws=3), atol=1e-4
    )


def test_values_out_of_reach_are_cut(mapped, tmp_path):
    model, far = fit(mapped), tiny_tasks(rows=(4, 5), seed=1)
    values = [rows * [1, 1, 1e9] for rows in far.arrays]
    (tmp_path / "far").mkdir()
    tasks = TaskDataset.from_arrays(values)
    found = []
    for each in (tasks, on_disk(tasks, tmp_path / "far")):
        with pytest.warns(MetaCaDIWarning, match="task 'task1', column 'X3'; .* They were cut"):
            found.append(model.adapt(each).target_probs)
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


def test_a_saved_model_keeps_its_rows_on_disk(mapped, tmp_path):
    model = fit(mapped)
    model.save(tmp_path / "model")
    assert sorted(os.listdir(tmp_path / "model")) == [
        "model.json",
        "rows.npy",
        "tensors.safetensors",
    ]
    again = MetaCaDI.load(tmp_path / "model")
    assert again.posterior.tasks.on_disk
    assert again.posterior.tasks == mapped
    assert again.posterior.target_probs.identical(model.posterior.target_probs)
    again.save(tmp_path / "model")  # over the rows that it reads
    MetaCaDI.load(tmp_path / "model").save(tmp_path / "copy")
    for name in os.listdir(tmp_path / "model"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
    fit(tiny_tasks(rows=ROWS)).save(tmp_path / "model")
    assert sorted(os.listdir(tmp_path / "model")) == ["model.json", "tensors.safetensors"]


def shorten(path):
    path.write_bytes(path.read_bytes()[:-8])


def replaced(values):
    return lambda path: np.save(path, values)


BAD_ROWS = {
    "truncated": (shorten, "expected a complete .npy file"),
    "pickled": (replaced(np.array([{}, 1], dtype=object)), "expected a complete .npy file"),
    "other rows": (replaced(np.ones((3, 3))), "data.num_rows: expected what fits"),
    "other columns": (replaced(np.ones((sum(ROWS), 2))), "expected 2 names, got 3"),
    "single precision": (replaced(np.ones((sum(ROWS), 3), np.float32)), "got float32"),
    "missing values": (replaced(np.full((sum(ROWS), 3), np.nan)), "got NaN at task 'task1'"),
    "gone": (os.remove, "damaged one"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_damaged_rows_are_one_clear_error(mapped, tmp_path, case):
    damage, message = BAD_ROWS[case]
    fit(mapped).save(tmp_path / "model")
    damage(tmp_path / "model" / "rows.npy")
    with pytest.raises(ModelFileError, match=message):
        MetaCaDI.load(tmp_path / "model")


def test_the_evidence_engine_reads_all_rows(tmp_path):
    from tests.helpers import evidence_estimator, tiny_world

    tasks = tiny_world().tasks
    models = [
        evidence_estimator(num_draws=5, warmup=2).fit(each, progress=False)
        for each in (tasks, on_disk(tasks, tmp_path))
    ]
    first, second = (model.posterior for model in models)
    assert second.target_probs.identical(first.target_probs)


MEMORY = """
import sys, threading, time, warnings
from functools import partial
import numpy, pandas, pyarrow.parquet, torch
torch.set_num_threads(1)
warnings.simplefilter("ignore")
from pyro_metacadi import MetaCaDI, TaskDataset
from tests.helpers import TINY, fitted
from pyro_metacadi.data import lazy_batch, ondisk, streaming
from pyro_metacadi.inference import draws, training
from pyro_metacadi.inference.training import Training

def anonymous():
    "MiB that cannot be dropped and read again, unlike pages of a file."
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Anonymous"))

def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.02)

# What is computed at a time, whatever the number of rows.
draws.CHUNK_FLOATS, lazy_batch.PART, training.HELD_OUT_VALUES = 2**20, 2**16, 2**13
ondisk.BLOCK = streaming.PIECE = 2**18
# Whatever is imported or allocated once.
fitted().posterior.target_probs
TaskDataset.open(sys.argv[1] + "/small.parquet", task="arm")
peak, before = [0], anonymous()
threading.Thread(target=watch, daemon=True).start()
tasks = TaskDataset.open(sys.argv[1] + "/d.parquet", task="arm")
options = Training(num_steps=5, tasks_per_step=8, support_size=5, patience=2)
model = MetaCaDI(**{"engine": "svi", **TINY, "training": options}).fit(tasks, progress=False)
model.save(sys.argv[1] + "/model")
again = MetaCaDI.load(sys.argv[1] + "/model")
assert again.adapt(again.posterior.tasks[:9]).target_probs.shape == (9, 10)
print(tasks.values.nbytes / 2**20, peak[0] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_a_fit_takes_a_fraction_of_the_memory_that_its_rows_would(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rng, rows = np.random.default_rng(0), 100_000
    table = {f"X{i}": rng.normal(size=rows) for i in range(10)}
    small = pyarrow.table({**table, "arm": ["a"] * rows})
    pyarrow.parquet.write_table(small, tmp_path / "small.parquet")
    with pyarrow.parquet.ParquetWriter(tmp_path / "d.parquet", small.schema) as file:
        for at in range(26):
            arms = np.char.add(f"{at}-", rng.integers(0, 200, rows).astype(str))
            file.write_table(pyarrow.table({**table, "arm": arms}, schema=small.schema))
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    size, more = map(float, ran.stdout.split())
    assert size > 190
    assert more < size / 2
