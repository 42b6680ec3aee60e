import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi import TaskDataset
from pyro_metacadi.data.coding import CovariateCoding, from_codes
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.errors import DataError
from tests.data.examples import example

ROWS = 10
BATCH = list("aabbaabbca")
DOSE = np.arange(10) / 4


def with_covariates(**changes):
    """Tasks of 3, 5 and 2 rows, each of which knows its own number as a dose."""
    data = example()
    beside = {"batch": BATCH, "dose": DOSE, **changes}
    return TaskDataset.from_arrays(
        data.arrays, variables=data.variables, tasks=data.tasks, covariates=beside
    )


def test_the_example_has_as_many_rows_as_covariates():
    assert len(example().values) == ROWS


@given(st.integers(0, 99), st.integers(1, 2))
def test_every_way_to_choose_rows_takes_their_covariates_along(seed, size):
    data = with_covariates()
    dose_of = dict(zip(map(bytes, data.values), DOSE, strict=True))
    chosen = (
        data.take_rows(size, seed=seed),
        data.split_rows(size, seed=seed),
        data[["heat", "wild"]],
        data[1:],
        data["drug"].concatenate(data["heat"]),
        data.align(data.variables[::-1]).align(data.variables),
        TaskDataset.from_dataframe(data.to_dataframe(), task="task", covariates=["dose", "batch"]),
        pickle.loads(pickle.dumps(data)),
        copy.deepcopy(data),
    )
    for part in chosen:
        np.testing.assert_array_equal(
            part.covariates["dose"], [dose_of[bytes(row)] for row in part.values]
        )
        groups = [BATCH[int(4 * dose)] for dose in part.covariates["dose"]]
        assert part.covariates["batch"].tolist() == groups


def test_datasets_differ_where_covariates_do():
    assert with_covariates() == with_covariates()
    assert with_covariates() != with_covariates(batch=list("aabbaabbcb"))
    assert with_covariates() != example()
    assert "covariates: batch, dose" in repr(with_covariates())
    assert "covariates" not in repr(example())


def test_covariates_cannot_be_changed():
    mine = np.array(BATCH)
    data = with_covariates(batch=mine)
    mine[0] = "z"
    assert data.covariates["batch"][0] == "a"
    with pytest.raises(ValueError, match="read-only"):
        data.covariates["dose"][0] = 1
    with pytest.raises(TypeError, match="assignment"):
        data.covariates["dose"] = DOSE


def test_columns_of_a_frame_become_covariates_in_the_order_of_its_tasks():
    frame = pd.DataFrame(
        {
            "g1": [1.0, 2, 3],
            "type": pd.Categorical(["x", "y", "x"]),
            "run": ["t2", "t1", "t2"],
            "old": [True, False, False],
            "g2": [4.0, 5, 6],
        }
    )
    data = TaskDataset.from_dataframe(frame, task="run", covariates=["type", "old"])
    assert data.variables == ("g1", "g2")
    assert data.values.tolist() == [[1, 4], [3, 6], [2, 5]]
    assert data.covariates["type"].tolist() == ["x", "x", "y"]
    assert data.covariates["old"].tolist() == [1.0, 0.0, 0.0]


def test_groups_may_be_written_as_numbers():
    frame = pd.DataFrame(
        {"g": [1.0, 2, 3], "run": ["t", "t", "t"], "batch": [1, 2, 1], "plate": [7, 8, 7]}
    )
    frame["plate"] = frame["plate"].astype("category")
    data = TaskDataset.from_dataframe(frame, task="run", covariates=["plate"], groups=["batch"])
    assert data.covariates["batch"].tolist() == ["1", "2", "1"]
    assert data.covariates["plate"].tolist() == ["7", "8", "7"]
    assert data.variables == ("g",)


def test_groups_of_a_file_are_read_as_written(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("g,run,batch\n1,t,01\n2,t,1\n")
    data = TaskDataset.from_csv(path, task="run", groups=["batch"])
    assert data.covariates["batch"].tolist() == ["01", "1"]
    path.write_text("g,run,batch\n1,t,01\n2,t,\n")
    with pytest.raises(DataError, match="got 1 of 2 missing at 'batch'"):
        TaskDataset.from_csv(path, task="run", groups=["batch"])


BAD = {
    "no table": (3, "expected a dict or data frame, got int"),
    "a variable": ({"X1": DOSE}, "others than the variables, got 'X1'"),
    "too few values": ({"dose": DOSE[:4]}, r"expected 10 values at 'dose'.*got shape \[4\]"),
    "two columns": ({"dose": np.ones((10, 2))}, r"got shape \[10, 2\]"),
    "missing": ({"batch": [None, *BATCH[1:]]}, "got 1 of 10 missing at 'batch'"),
    "not a number": ({"dose": [np.nan] * 10}, "got 10 of 10 missing at 'dose'"),
    "infinite": ({"dose": [np.inf] * 10}, "finite numbers .* got 'inf' at 'dose'"),
    "numbers and text": ({"batch": [1, *BATCH[1:]]}, "got 'a' at 'batch'"),
    "dates": ({"day": pd.date_range("2026-01-01", periods=10)}, "got .*2026.* at 'day'"),
    "dates as numbers": (
        {"day": np.arange(10).astype("datetime64[ns]")},
        "finite numbers .* at 'day'",
    ),
    "masked": ({"dose": np.ma.array(DOSE, mask=[True] + [False] * 9)}, "got 1 of 10 missing"),
    "a list for each task": ({"c": [["a"] * 4, ["a"] * 6]}, "a sequence of values at 'c'"),
    "an array for each task": ({"c": [np.ones(4), np.ones(6)]}, "a sequence of values at 'c'"),
    "no sequence": ({"c": 3}, "at 'c'"),
    "a class": (pd.DataFrame, "expected a dict or data frame, got type"),
    "blank groups": ({"batch": [" ", *BATCH[1:]]}, "groups of covariate 'batch': expected names"),
    "a name twice": ({1: DOSE, "1": DOSE}, "'1' more than once"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_covariates_are_one_clear_error(case):
    covariates, message = BAD[case]
    with pytest.raises(DataError, match=message):
        TaskDataset.from_arrays([np.ones((10, 2))], covariates=covariates)


@pytest.mark.parametrize(
    ("covariates", "message"),
    [
        (["tpye"], "covariate: expected a known name, got 'tpye'. Did you mean 'type'"),
        (["dose"], "covariate: expected a known name, got 'dose'. Use one of 'g', 'type'."),
        (["run"], "others than the task column, got 'run'"),
        ("type", "sequence of names, got 'type'"),
        (["type", "type"], "'type' more than once"),
    ],
)
def test_unknown_columns_are_refused(covariates, message):
    frame = pd.DataFrame({"g": [1.0], "type": ["x"], "run": ["t"]})
    with pytest.raises(DataError, match=message):
        TaskDataset.from_dataframe(frame, task="run", covariates=covariates)


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".parquet"])
def test_ignored_columns_are_as_if_they_were_not_there(tmp_path, suffix):
    frame = with_covariates().to_dataframe(task="run")
    plain = TaskDataset.from_dataframe(frame, task="run", groups=["batch"], covariates=["dose"])
    frame.insert(1, "sample", [f"s{number}" for number in range(len(frame))])
    frame["depth"] = np.nan
    columns = {"covariates": ["dose"], "groups": ["batch"], "ignore": ["sample", "depth"]}
    assert TaskDataset.from_dataframe(frame, task="run", **columns) == plain
    path = tmp_path / f"data{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if "tsv" in suffix else ",")
    assert TaskDataset.from_csv(path, task="run", **columns) == plain
    assert TaskDataset.open(path, task="run", **columns) == plain


@pytest.mark.parametrize(
    ("ignore", "message"),
    [
        (["tpye"], "ignored column: expected a known name, got 'tpye'. Did you mean 'type'"),
        (["run"], "ignored columns: expected others than the task column, got 'run'"),
        ("type", "ignored columns: expected a sequence of names, got 'type'"),
        (["type", "type"], "'type' more than once"),
        (["dose"], "covariates and ignored columns: .* 'dose' more than once"),
        (["g", "type"], "at least one variable"),
    ],
)
def test_columns_that_cannot_be_ignored_are_refused(ignore, message):
    frame = pd.DataFrame({"g": [1.0], "type": ["x"], "run": ["t"], "dose": [2.0]})
    with pytest.raises(DataError, match=message):
        TaskDataset.from_dataframe(frame, task="run", covariates=["dose"], ignore=ignore)


def test_joining_needs_the_same_covariates_of_the_same_kind():
    data = with_covariates()
    with pytest.raises(DataError, match="'batch', 'dose' missing"):
        data["wild"].concatenate(example()["drug"])
    with pytest.raises(DataError, match="none missing and 'batch', 'dose' unknown"):
        example()["wild"].concatenate(data["drug"])
    other = with_covariates(batch=DOSE)
    with pytest.raises(DataError, match="got both at 'batch'"):
        data["wild"].concatenate(other["drug"])


def test_groups_are_indicators_and_quantities_are_standardised():
    data = with_covariates()
    units = Representation.fit(data)
    d = len(data.variables)
    assert units.num_covariates == 4  # three groups and the dose
    columns = np.concatenate(units.transform(data))[:, d:]
    for at, group in enumerate("abc"):
        indicator = np.array(BATCH) == group
        np.testing.assert_allclose(np.diff(np.unique(columns[:, at])), [1.0])
        assert (columns[indicator, at] > columns[~indicator, at].max()).all()
    np.testing.assert_allclose([columns[:, 3].mean(), columns[:, 3].std()], [0, 1], atol=1e-12)
    first = np.concatenate(units.transform(data["wild"]))[:, d:]
    np.testing.assert_array_equal(first, columns[:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": ["z"] * 10}, "got 'z' at task 'wild', covariate 'batch'"),
        ({"batch": DOSE}, "expected text as in training, got 0.0 at 'batch'"),
        ({"dose": BATCH}, "expected numbers as in training, got 'a' at 'dose'"),
        ({"depth": DOSE}, "got none missing and 'depth' unknown"),
    ],
)
def test_new_tasks_must_have_the_covariates_of_training(change, message):
    units = Representation.fit(with_covariates())
    with pytest.raises(DataError, match=message):
        units.transform(with_covariates(**change))
    with pytest.raises(DataError, match="'batch', 'dose' missing"):
        units.transform(example())


def test_codes_are_the_covariates_again():
    covariates = with_covariates().covariates
    coding = CovariateCoding.of(covariates)
    again = from_codes(coding.codes(covariates), coding.groups)
    assert list(again) == list(covariates)
    for name, column in covariates.items():
        np.testing.assert_array_equal(again[name], column)
        assert again[name].dtype == column.dtype
    for codes in (np.ones((3, 1)), np.full((3, 2), 0.5), np.full((3, 2), -1.0)):
        with pytest.raises(ValueError, match="covariate"):
            from_codes(codes, coding.groups)
