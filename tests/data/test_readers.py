import gzip

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given

from pyro_metacadi import TaskDataset
from pyro_metacadi.errors import DataError
from tests.data.examples import datasets, example

FRAME = pd.DataFrame({"a": [1, 2, 3, 4], "arm": ["x", "y", "x", "z"], "b": [0.5, 1.5, 2.5, 3.5]})


@given(datasets())
def test_a_dataset_survives_the_way_through_a_data_frame(data):
    assert TaskDataset.from_dataframe(data.to_dataframe(), task="task") == data


def test_rows_are_grouped_by_task_in_order_of_first_appearance():
    data = TaskDataset.from_dataframe(FRAME, task="arm")
    assert data.tasks == ("x", "y", "z")
    assert data.variables == ("a", "b")
    assert data.arrays[0].tolist() == [[1, 0.5], [3, 2.5]]


@pytest.mark.parametrize(
    ("labels", "tasks"),
    [
        ([2, 1, 2, 1], ("2", "1")),
        ([True, False, True, False], ("True", "False")),
        ([("a", 1), ("b", 2), ("a", 1), ("c", 3)], ("('a', 1)", "('b', 2)", "('c', 3)")),
        (pd.Categorical(["v", "u", "v", "u"], categories=["u", "v", "w"]), ("v", "u")),
        (pd.array(["q", "p", "q", "p"], dtype="string"), ("q", "p")),
    ],
)
def test_task_labels_of_any_hashable_type_become_strings(labels, tasks):
    frame = pd.DataFrame({"a": [1, 2, 3, 4]}).assign(arm=labels)
    assert TaskDataset.from_dataframe(frame, task="arm").tasks == tasks


def test_nullable_integer_and_object_columns_of_numbers_are_numbers():
    frame = pd.DataFrame({"t": "one", "a": pd.array([1, 2], dtype="Int64"), 3: [True, False]})
    frame["c"] = pd.Series([1, 2.5], dtype=object)
    data = TaskDataset.from_dataframe(frame, task="t")
    assert data.variables == ("a", "3", "c")
    assert data.values.tolist() == [[1, 1, 1], [2, 0, 2.5]]


TWICE = FRAME.set_axis(["a", "arm", "a"], axis=1)
BAD_FRAMES = {
    "not a frame": (np.ones((2, 2)), "arm", "expected a pandas DataFrame, got ndarray"),
    "no task column": (FRAME, "Arm", r"got 'Arm'\. Did you mean 'arm'"),
    "task in the index": (
        FRAME.set_index("arm"),
        "arm",
        r"the index. Make it one: df\.reset_index\(\)",
    ),
    "no name for the task": (FRAME, None, "task column: expected a known name, got 'None'"),
    "missing label": (FRAME.replace("y", None), "arm", "got 1 of 4 missing at column 'arm'"),
    "unhashable": (FRAME.assign(arm=[[1], [2], [1], [3]]), "arm", "hashable labels"),
    "column twice": (TWICE, "arm", "columns: .*'a' more than once"),
    "no rows": (FRAME[:0], "arm", "empty table"),
    "no variables": (FRAME[["arm"]], "arm", "at least one variable"),
    "text": (FRAME.assign(b=list("pqrs")), "arm", r"no numbers at task 'x', column 'b' \(2 of 2"),
    "one word": (
        FRAME.assign(b=["1", "2", "oops", "4"]),
        "arm",
        r"no numbers at task 'x', column 'b' \(1 of 2 rows\)\. Ignore",
    ),
    "dates": (FRAME.assign(b=pd.Timestamp("2024-01-01")), "arm", "values that are no numbers"),
    "complex": (FRAME.assign(b=1j), "arm", "values that are no numbers"),
    "missing": (
        FRAME.assign(b=[1, None, 3, 4]),
        "arm",
        r"NaN at task 'y', column 'b' \(1 of 1 rows\)",
    ),
    "missing integer": (
        FRAME.assign(b=pd.array([1, None, 3, 4], dtype="Int64")),
        "arm",
        "NaN at task 'y', column 'b'",
    ),
    "labels that read the same": (FRAME.assign(arm=[1, "1", 2, 3]), "arm", "'1' more than once"),
}


@pytest.mark.parametrize(("frame", "task", "message"), BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_unusable_frames_are_refused_by_name(frame, task, message):
    with pytest.raises(DataError, match=message):
        TaskDataset.from_dataframe(frame, task=task)


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.csv.gz", "d.tsv.gz", "d.parquet"])
def test_files_hold_what_was_written(tmp_path, name):
    data = example()
    frame = data.to_dataframe("arm")
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, sep="\t" if "tsv" in name else ",", index=False)
    assert TaskDataset.from_csv(path, task="arm") == data
    assert TaskDataset.from_csv(str(path), task="arm") == data


def test_labels_in_a_file_are_read_as_written(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("\ufeff\narm,a\n01,1\nNA,2\nNone,3\n1.0,4\n", encoding="utf-8")
    assert TaskDataset.from_csv(path, task="arm").tasks == ("01", "NA", "None", "1.0")


BAD_FILES = {
    "semicolons": ("d.csv", b"arm;a\nx;1,5\n", "separated by ',', got ';' in 'arm;a'"),
    "commas": ("d.tsv", b"arm,a\nx,1\n", r"separated by '\\t', got ','"),
    "empty": ("d.csv", b"", "got an empty file"),
    "header only": ("d.csv", b"arm,a\n", "got an empty table"),
    "row index": ("d.csv", b",arm,a\n0,x,1\n", "none at column 1.*index=False"),
    "column twice": ("d.csv", b"arm,a,a\nx,1,2\n", "'a' more than once"),
    "longer rows": ("d.csv", b"arm,a\nx,1,2\n", "header: expected 3 names"),
    "ragged rows": ("d.csv", b"arm,a\nx,1\nx,1,2\n", "expected a readable table"),
    "no task column": ("d.csv", b"art,a\nx,1\n", r"got 'arm'\. Did you mean 'art'"),
    "blank label": ("d.csv", b"arm,a\nx,1\n,2\n", "1 of 2 missing at column 'arm'"),
    "blank value": ("d.csv", b"arm,a,b\nx,1,\n", "NaN at task 'x', column 'b'"),
    "word": ("d.csv", b"arm,a\nx,1\nx,oops\n", r"column 'a' \(1 of 2 rows\)"),
    "utf-16": ("d.csv", "arm,a\nx,1\n".encode("utf-16"), "expected text in UTF-8, .* as UTF-8"),
    "null in a name": ("d.csv", b"arm,a\0\nx,1\n", r"files can hold, got 'a\\x00'"),
    "null in a label": ("d.csv", b"arm,a\nx\0y,1\n", r"tasks: .* got 'x\\x00y'"),
    "not gzip": ("d.csv.gz", b"arm,a\nx,1\n", "expected a readable table"),
    "cut gzip": ("d.csv.gz", gzip.compress(b"arm,a\nx,1\n" * 99)[:-12], "readable table"),
    "not parquet": ("d.parquet", b"arm,a\nx,1\n", "expected a readable table"),
    "extension": ("d.xlsx", b"", r"got extension '\.xlsx'"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_unusable_files_are_refused_and_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        TaskDataset.from_csv(path, task="arm")
    assert str(caught.value).startswith(f"file '{path}': ")


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path):
    columns = [pyarrow.array(values) for values in ([1.0], [2.0], ["x"])]
    table = pyarrow.Table.from_arrays(columns, names=["a", "a", "arm"])
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"d\.parquet': columns: .*'a' more than once"):
        TaskDataset.from_csv(tmp_path / "d.parquet", task="arm")


@pytest.mark.parametrize("path", ["a\0b.csv", "a" * 5000 + ".csv"], ids=["null", "long"])
def test_a_path_that_no_file_can_have_is_refused(path):
    with pytest.raises(DataError, match="file: expected a path, got 'a"):
        TaskDataset.from_csv(path, task="arm")


def test_a_path_without_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv.*FileNotFoundError"):
        TaskDataset.from_csv(tmp_path / "none.csv", task="arm")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv.*IsADirectoryError"):
        TaskDataset.from_csv(tmp_path / "folder.csv", task="arm")
