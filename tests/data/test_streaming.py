"""Datasets on disk are those in memory: the same values, the same errors, nothing left behind."""

import copy
import gc
import os
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi import TaskDataset
from pyro_metacadi.data import ondisk, streaming
from pyro_metacadi.data.scaling import Standardizer, moments
from pyro_metacadi.errors import DataError
from tests.data.examples import example
from tests.data.test_readers import BAD_FILES, BAD_FRAMES, FRAME

MEMBERS = ["d.csv", "d.tsv", "d.csv.gz", "d.parquet"]
CELLS = ["1", "2", "2.5", "1e400", "9007199254740993", "0.1000000000000000055511151231257827"]
ODD = [*CELLS, "True", "False", "", "NA", "word", "1_000", "inf"]


@pytest.fixture(autouse=True)
def one_row_at_a_time(monkeypatch):
    monkeypatch.setattr(streaming, "PIECE", 1)


def both(path, **columns):
    """What either way of reading a file gives: a dataset, or the words of the error."""
    found = []
    for build in (TaskDataset.from_csv, TaskDataset.open):
        try:
            found.append(build(path, **columns))
        except DataError as error:
            found.append(str(error))
    return found


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=2)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")


@pytest.mark.parametrize("name", MEMBERS)
@given(
    tasks=st.lists(st.sampled_from(["wild", "01", "NA", "heat"]), min_size=1, max_size=8),
    seed=st.integers(0, 99),
)
def test_a_table_on_disk_is_the_table_in_memory(tmp_path_factory, name, tasks, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(len(tasks), 2)) * 1e3, columns=["a", "b"])
    frame.insert(1, "arm", tasks)
    frame["count"] = rng.integers(0, 5, len(tasks))
    frame["dose"], frame["batch"] = rng.normal(size=len(tasks)), rng.integers(1, 3, len(tasks))
    path = tmp_path_factory.mktemp("data") / name
    write(frame, path)
    columns = {"task": "arm", "covariates": ["dose"], "groups": ["batch"]}
    expected, found = both(path, **columns)
    assert found == expected
    assert found.on_disk
    assert not expected.on_disk
    assert os.listdir(path.parent) == [name]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(ODD)), min_size=1, max_size=6))
def test_types_are_those_of_the_whole_column(tmp_path_factory, rows):
    """Pieces of one row tell little: whole, broken and true may be words further down."""
    path = tmp_path_factory.mktemp("data") / "d.csv"
    pd.DataFrame(rows, columns=["arm", "a"]).assign(b=1.5).to_csv(path, index=False)
    for columns in ({}, {"covariates": ["a"]}):
        expected, found = both(path, task="arm", **columns)
        assert found == expected


@pytest.mark.parametrize("kind", ["Int64", "boolean", "category", "float32"])
def test_types_of_parquet_columns_are_kept(tmp_path, kind):
    values = pd.Series([1, 0, 1, 1], dtype="Int64").astype(kind)
    FRAME.assign(c=values).to_parquet(tmp_path / "d.parquet", row_group_size=3)
    for columns in ({}, {"covariates": ["c"]}):
        expected, found = both(tmp_path / "d.parquet", task="arm", **columns)
        assert found == expected
    FRAME.set_index("a").to_parquet(tmp_path / "d.parquet")
    expected, found = both(tmp_path / "d.parquet", task="arm")
    assert found == expected
    assert found.variables == ("b",)


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_unusable_files_are_refused_in_the_same_words(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    expected, found = both(tmp_path / name, task="arm")
    assert isinstance(found, str)
    if message != "expected a readable table":  # what a parser says depends on where it is
        assert found == expected
    with pytest.raises(DataError, match=message):
        TaskDataset.open(tmp_path / name, task="arm")
    assert os.listdir(tmp_path) == [name]


STORABLE = [case for case in BAD_FRAMES if case not in ("not a frame", "column twice", "complex")]


@pytest.mark.parametrize("case", [c for c in STORABLE if "read the same" not in c])
def test_unusable_parquet_files_are_refused_in_the_same_words(tmp_path, case):
    frame, task, message = BAD_FRAMES[case]
    frame.to_parquet(tmp_path / "d.parquet", row_group_size=2)
    expected, found = both(tmp_path / "d.parquet", task=task)
    assert found == expected
    with pytest.raises(DataError, match=message):
        TaskDataset.open(tmp_path / "d.parquet", task=task)
    assert os.listdir(tmp_path) == ["d.parquet"]


@pytest.mark.parametrize(
    "columns",
    [
        {"covariates": ["arm"]},
        {"covariates": ["dose"]},
        {"covariates": ["b"], "groups": ["b"]},
        {"covariates": "b"},
        {"task": "Arm"},
        {"covariates": ["a", "b"]},
    ],
)
@pytest.mark.parametrize("name", ["d.csv", "d.parquet"])
def test_columns_that_do_not_fit_are_refused_in_the_same_words(tmp_path, name, columns):
    write(FRAME, tmp_path / name)
    expected, found = both(tmp_path / name, **{"task": "arm", **columns})
    assert isinstance(found, str)
    assert found == expected


@pytest.mark.parametrize("path", ["a\0b.csv", "none.csv", "."])
def test_a_path_without_a_file_is_refused(path):
    with pytest.raises(DataError, match="file"):
        TaskDataset.open(path, task="arm")


def test_a_folder_for_the_copy_must_be_there_and_have_room(tmp_path, monkeypatch):
    write(FRAME, tmp_path / "d.csv")
    with pytest.raises(DataError, match=r"cache: .* 'No such file or directory' at '.*none'"):
        TaskDataset.open(tmp_path / "d.csv", task="arm", cache=tmp_path / "none")
    with pytest.raises(DataError, match=r"cache: .* 'Not a directory'"):
        TaskDataset.open(tmp_path / "d.csv", task="arm", cache=tmp_path / "d.csv")
    if os.path.exists("/dev/full"):
        full = lambda **_: open("/dev/full", "w+b", buffering=0)  # noqa: E731, SIM115
        monkeypatch.setattr(streaming, "TemporaryFile", full)
        with pytest.raises(DataError, match=r"cache: .* 'No space left on device'.*cache="):
            TaskDataset.open(tmp_path / "d.csv", task="arm")
    assert os.listdir(tmp_path) == ["d.csv"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_the_copy_is_gone_with_the_dataset(tmp_path):
    write(FRAME, tmp_path / "d.csv")

    def maps():
        gc.collect()
        with open("/proc/self/maps") as lines:
            return sum(str(tmp_path) in line for line in lines)

    data = TaskDataset.open(tmp_path / "d.csv", task="arm")
    row = data.arrays[0]
    assert maps() == 1
    del data, row
    assert maps() == 0


def saved(data, tmp_path):
    np.save(tmp_path / "rows.npy", data.values)
    return TaskDataset.from_memmap(
        tmp_path / "rows.npy", num_rows=data.num_rows, variables=data.variables, tasks=data.tasks
    )


def test_an_array_on_disk_is_not_copied(tmp_path):
    data, mapped = example(), saved(example(), tmp_path)
    assert mapped == data
    assert mapped.on_disk
    own = np.load(tmp_path / "rows.npy", mmap_mode="r+")
    again = TaskDataset.from_memmap(own, num_rows=[10], covariates={"dose": np.arange(10)})
    assert np.shares_memory(again.values, own)
    assert not again.values.flags.writeable
    assert own.flags.writeable
    assert (again.variables, again.tasks) == (("X1", "X2", "X3"), ("task1",))
    assert list(again.covariates) == ["dose"]


WRONG = np.array([[1.0, 2.0], [np.nan, 3.0], [4.0, np.inf]])
BAD_MAPS = {
    "not on disk": (np.ones((3, 2)), {}, r"values: .* got ndarray\. Write"),
    "a list": ([[1.0]], {}, "values: .* got list"),
    "single precision": (np.ones((3, 2), np.float32), {}, r"got float32 of shape \[3, 2\]"),
    "a vector": (np.ones(3), {}, r"got float64 of shape \[3\]"),
    "column after column": (np.ones((3, 2), order="F"), {}, "row after row"),
    "too many rows": (np.ones((3, 2)), {"num_rows": [2, 2]}, "add up to the 3 rows, got a sum of"),
    "no rows of a task": (np.ones((3, 2)), {"num_rows": [3, 0]}, "num_rows: expected a positive"),
    "half a row": (np.ones((3, 2)), {"num_rows": [1.5, 1.5]}, "num_rows: expected a positive"),
    "no tasks": (np.ones((3, 2)), {"num_rows": []}, "num_rows: expected"),
    "names": (np.ones((3, 2)), {"variables": ["a"]}, "variables: expected 2 names, got 1"),
    "tasks": (np.ones((3, 2)), {"tasks": ["a", "b"]}, "tasks: expected 1 names, got 2"),
    "missing": (WRONG, {}, r"NaN at task 'task1', column 'X1' \(1 of 3 rows\)"),
    "infinite": (WRONG[2:], {"num_rows": [1]}, "infinite values at task 'task1', column 'X2'"),
    "covariate": (np.ones((3, 2)), {"covariates": {"dose": [1, 2]}}, "expected 3 values at 'dose'"),
    "no variables": (np.ones((3, 0)), {}, r"got float64 of shape \[3, 0\]"),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_unusable_arrays_are_refused(tmp_path, case):
    values, choices, message = BAD_MAPS[case]
    if case not in ("not on disk", "a list"):
        np.save(tmp_path / "rows.npy", values)
        values = tmp_path / "rows.npy"
    with pytest.raises(DataError, match=message):
        TaskDataset.from_memmap(values, **{"num_rows": [3], **choices})


@pytest.mark.parametrize("content", [b"", b"arm,a\nx,1\n", b"\x80\x04pickle"])
def test_files_that_hold_no_array_are_refused(tmp_path, content):
    (tmp_path / "rows.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.npy': expected a readable table"):
        TaskDataset.from_memmap(tmp_path / "rows.npy", num_rows=[1])


def test_consecutive_tasks_stay_on_disk_and_others_are_copied(tmp_path):
    data, mapped = example(), saved(example(), tmp_path)
    for key in (slice(1, 3), "drug", [0, 1], -1):
        assert mapped[key] == data[key]
        assert mapped[key].on_disk
        assert not mapped[key].num_rows.flags.writeable
    for key in ([2, 0], slice(None, None, 2)):
        assert mapped[key] == data[key]
        assert not mapped[key].on_disk
    assert [*mapped] == [*data]
    assert all(one.on_disk for one in mapped)


def test_everything_else_is_as_in_memory(tmp_path):
    data, mapped = example(), saved(example(), tmp_path)
    assert mapped.select(["X3", "X1"]) == data.select(["X3", "X1"])
    assert mapped.take_rows(2, seed=0) == data.take_rows(2, seed=0)
    assert mapped.split_rows(2) == data.split_rows(2)
    more = TaskDataset.from_arrays([np.ones((1, 3))])
    assert mapped.concatenate(more) == data.concatenate(more)
    assert copy.deepcopy(mapped) is copy.copy(mapped) is mapped
    with pytest.raises(DataError, match=r"expected rows in memory to pickle, got some on disk"):
        pickle.dumps(mapped)
    told = data.declare("drug", hit=["X2"])
    mapped_told = mapped.declare("drug", hit=["X2"])
    assert mapped_told[:2] == told[:2]
    assert all(mapped_told[[name]] == told[[name]] for name in data.tasks)
    pd.testing.assert_frame_equal(mapped.to_dataframe(), data.to_dataframe())
    first, second = (Standardizer.fit(d).transform(d) for d in (data, mapped))
    assert isinstance(second, ondisk.RowsOnDisk)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(second[1:]) == 2
    assert np.array_equal(second[1:][0], first[1])


@given(size=st.integers(1, 40), shift=st.floats(-1e9, 1e9))
def test_moments_of_blocks_are_those_of_all_rows(size, shift):
    rows = np.random.default_rng(0).normal(size=(25, 3)) + shift
    rows[:, 1] = shift
    whole = moments(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ondisk, "BLOCK", size)
        parts = moments(rows)
    for first, second in zip(whole, parts, strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-12, atol=1e-12 * (1 + abs(shift)))
    assert parts[0][1] == shift
    assert parts[1][1] == 0
