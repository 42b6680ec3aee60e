import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyro_metacadi.errors import DataError
from pyro_metacadi.inference.arviz import to_inference_data

REPOSITORY = Path(__file__).parents[2]
COORDS = {
    "parent": ["Raf", "Mek"],
    "child": ["Raf", "Mek"],
    "variable": ["Raf", "Mek"],
    "task": ["control", "drug", "heat"],
}
DIMS = {
    "adjacency": ["parent", "child"],
    "edge_prob": ["parent", "child"],
    "target": ["task", "variable"],
    "x": ["task", "obs"],
    "num_rows": ["task"],
}


def draws():
    rng = np.random.default_rng(0)
    return {
        "posterior": {
            "adjacency": rng.integers(0, 2, (2, 30, 2, 2)).astype(np.int8),
            "edge_prob": rng.random((2, 30, 2, 2)),
            "target": rng.integers(0, 2, (2, 30, 3, 2)).astype(bool),
        },
        "sample_stats": {"lp": rng.random((2, 30))},
        "log_likelihood": {"x": -rng.random((2, 30, 3, 5))},
        "observed_data": {"x": rng.random((3, 5))},
        "constant_data": {"num_rows": np.array([5, 5, 5])},
    }


def exported(**attrs):
    return to_inference_data(draws(), coords=COORDS, dims=DIMS, attrs=attrs)


def test_every_group_and_array_is_kept_with_its_dtype():
    data = exported()
    for group, variables in draws().items():
        for name, values in variables.items():
            kept = data[group][name]
            assert kept.dtype == values.dtype
            np.testing.assert_array_equal(kept.values, values)


def test_dimensions_are_named_and_labelled():
    data = exported()
    adjacency = data["posterior"]["adjacency"]
    assert adjacency.dims == ("chain", "draw", "parent", "child")
    assert list(adjacency["parent"].values) == ["Raf", "Mek"]
    assert list(adjacency["draw"].values) == list(range(30))
    assert data["observed_data"]["x"].dims == ("task", "obs")
    assert list(data["observed_data"]["obs"].values) == list(range(5))
    assert list(data["constant_data"]["task"].values) == COORDS["task"]


def test_the_netcdf_round_trip_is_exact(tmp_path):
    import arviz

    data = exported(seed=3, inference_library="pyro_metacadi")
    data.to_netcdf(str(tmp_path / "posterior.nc"))
    loaded = arviz.from_netcdf(str(tmp_path / "posterior.nc"))
    for group in draws():
        assert data[group].identical(loaded[group])
        assert all(loaded[group][v].dtype == data[group][v].dtype for v in data[group])
    assert loaded.attrs["seed"] == 3
    assert loaded.attrs["inference_library"] == "pyro_metacadi"


def test_arviz_statistics_accept_the_container():
    import arviz

    data = exported()
    assert len(arviz.summary(data, var_names=["edge_prob"], kind="stats")) == 4
    assert np.isfinite(arviz.rhat(data, var_names=["edge_prob"])["edge_prob"].values).all()
    assert arviz.loo(data).n_data_points == 3 * 5


@pytest.mark.parametrize(
    ("groups", "dims", "coords", "message"),
    [
        (
            {"posterior": {"x": np.zeros((1, 4, 3))}},
            {"x": ["sample"]},
            {},
            r"dimension name: expected one that ArviZ does not reserve, got 'sample'\. .*'obs'",
        ),
        ({}, {}, {"draw": [1]}, r"got 'draw'"),
        (
            {"posterior": {"adjacency": np.zeros((1, 4, 2))}},
            DIMS,
            COORDS,
            r"array posterior/adjacency: expected shape \[chain, draw, parent=2, child=2\], "
            r"got \[1, 4, 2\]",
        ),
        (
            {"observed_data": {"x": np.zeros((2, 5))}},
            DIMS,
            COORDS,
            r"expected shape \[task=3, obs\], got \[2, 5\]",
        ),
        (
            {"posterior": {"a": np.zeros((1, 4)), "b": np.zeros((2, 4))}},
            {},
            {},
            r"array posterior/b: expected chain=1 as in the rest of the group, got 2",
        ),
    ],
)
def test_bad_input_is_named(groups, dims, coords, message):
    with pytest.raises(DataError, match=message):
        to_inference_data(groups, coords=coords, dims=dims)


def test_export_needs_no_torch_no_quiet_warnings_and_no_writable_home(tmp_path):
    # A home below a file can be written by nobody, not even by root.
    (tmp_path / "file").touch()
    code = """
import os, sys
from pyro_metacadi.inference.arviz import to_inference_data
to_inference_data({"posterior": {"a": [[0.0, 1.0]]}}, coords={}, dims={})
assert "torch" not in sys.modules
assert "XDG_CACHE_HOME" not in os.environ
"""
    home = str(tmp_path / "file" / "home")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"HOME": home, "MPLCONFIGDIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_variable_may_have_other_dimensions_in_another_group():
    groups = {
        "observed_data": {"x": np.zeros((5, 2))},
        "log_likelihood": {"x": np.zeros((1, 4, 5))},
    }
    dims = {"x": ("obs", "variable"), "log_likelihood/x": ("obs",)}
    data = to_inference_data(groups, coords={"variable": ["Raf", "Mek"]}, dims=dims)
    assert data["observed_data"]["x"].dims == ("obs", "variable")
    assert data["log_likelihood"]["x"].dims == ("chain", "draw", "obs")
