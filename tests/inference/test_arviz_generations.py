"""What one generation of ArviZ is given or writes, the other has as well; torch is not needed.

Run by the suite on ArviZ 0.23, and by ``make test-arviz1`` on ArviZ 1.x, where there is no torch.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pyro_metacadi.inference.arviz import read_inference_data, to_inference_data, write_zarr
from pyro_metacadi.inference.arviz_tables import draws_table, pareto_shape

ZARR = pytest.mark.skipif(find_spec("zarr") is None, reason="zarr is not installed")
REPOSITORY = Path(__file__).parents[2]
NAMES = ["Raf / p", "Mék", "<b>PKA</b>", "a b"]
TASKS = ["control", "drug / 1 µM"]
CHAINS, DRAWS, ROWS = 4, 60, 7
COORDS = {"parent": NAMES, "child": NAMES, "variable": NAMES, "task": TASKS}
DIMS = {
    "adjacency": ("parent", "child"),
    "edge_prob": ("parent", "child"),
    "intervention_target": ("task", "variable"),
    "x": ("obs", "variable"),
    "log_likelihood/x": ("obs",),
    "loss": ("chain", "step"),
    "obs_task": ("obs",),
    "known_targets": ("task", "variable"),
}
OTHER = os.environ.get("ARVIZ1_PYTHON", str(REPOSITORY / ".venv-312/bin/python"))


def groups():
    rng = np.random.default_rng(0)
    size, d = (CHAINS, DRAWS), len(NAMES)
    adjacency = rng.integers(0, 2, (*size, d, d)).astype(np.int8)
    adjacency[..., 0, 1], adjacency[..., range(d), range(d)] = 1, 0  # in every graph, and in none
    targets = rng.integers(0, 2, (*size, len(TASKS), d)).astype(np.int8)
    log_q = rng.normal(size=size)
    return {
        "posterior": {
            "adjacency": adjacency,
            "intervention_target": targets,
            "edge_prob": np.tile(adjacency.mean(1)[:, None], (1, DRAWS, 1, 1)),
        },
        "posterior_predictive": {"x": rng.normal(size=(*size, ROWS, d)).astype(np.float32)},
        "prior": {"adjacency": adjacency[:, ::-1].copy(), "intervention_target": targets},
        "prior_predictive": {"x": rng.normal(size=(CHAINS, 5, ROWS, d)).astype(np.float32)},
        "sample_stats": {
            "log_p": log_q + 0.1 * rng.normal(size=size),
            "log_q": log_q,
            "loss": rng.normal(size=(CHAINS, 9)),
        },
        "log_likelihood": {"x": rng.normal(-2, 0.2, size=(*size, ROWS))},
        "observed_data": {"x": rng.normal(size=(ROWS, d))},
        "constant_data": {
            "obs_task": np.array([TASKS[0]] * 4 + [TASKS[1]] * 3),
            "known_targets": np.array([[0] * d, [-1] * d], dtype=np.int8),
        },
    }


def exported():
    return to_inference_data(groups(), coords=COORDS, dims=DIMS, attrs={"seed": 3})


def assert_same(found):
    """Values, dtypes, dimensions and labels are those that were given, in every group."""
    for group, variables in groups().items():
        assert set(found[group].data_vars) == set(variables)
        for name, values in variables.items():
            kept = found[group][name]
            assert kept.dtype.kind == values.dtype.kind
            np.testing.assert_array_equal(np.asarray(kept.values, values.dtype), values)
            for dim in set(kept.dims) & set(COORDS):
                assert kept[dim].values.tolist() == COORDS[dim]
    assert found.attrs["seed"] == 3


def test_every_group_has_its_values_and_names():
    assert_same(exported())
    data = exported()
    assert data["sample_stats"]["loss"].dims == ("chain", "step")
    assert data["log_likelihood"]["x"].dims == ("chain", "draw", "obs")
    assert data["prior_predictive"]["x"].dims == ("chain", "draw", "obs", "variable")


def test_netcdf_keeps_everything(tmp_path):
    path = tmp_path / "posterior.nc"
    exported().to_netcdf(str(path))
    assert_same(read_inference_data(path))


@ZARR
def test_zarr_keeps_everything(tmp_path):
    write_zarr(exported(), tmp_path / "posterior.zarr")
    assert_same(read_inference_data(tmp_path / "posterior.zarr"))


def test_r_hat_ess_and_summary_say_what_the_draws_say():
    import arviz as az

    data = exported()
    with np.errstate(invalid="ignore"):  # an edge in every graph has no variance: 0 / 0
        found = az.rhat(data, var_names=["adjacency"])["adjacency"]
    rhat = found.sel(parent=NAMES[1], child=NAMES[0])
    ess = az.ess(data, var_names=["adjacency"])["adjacency"].sel(parent=NAMES[1], child=NAMES[0])
    assert 0.99 < float(rhat) < 1.1  # independent draws
    assert 0.4 * CHAINS * DRAWS < float(ess) < 3 * CHAINS * DRAWS
    assert np.isnan(float(found.sel(parent=NAMES[0], child=NAMES[1])))
    table = draws_table(data, ["intervention_target"], kind="stats")
    assert len(table) == len(TASKS) * len(NAMES)
    assert not table["constant"].any()
    edges = draws_table(data, ["adjacency"])
    assert (
        edges["constant"].to_numpy().reshape(4, 4).tolist()
        == ((np.eye(4) == 1) | (np.arange(16).reshape(4, 4) == 1)).tolist()
    )
    assert len(az.summary(data, var_names=["edge_prob"], kind="stats")) == len(NAMES) ** 2
    mean = groups()["posterior"]["intervention_target"].mean((0, 1)).ravel()
    np.testing.assert_allclose(table["mean"].to_numpy(float), mean)


def test_the_tail_of_weights_that_hardly_differ_is_light():
    rng = np.random.default_rng(0)
    assert pareto_shape(0.1 * rng.normal(size=2000)) < 0.3
    assert pareto_shape(-np.log(rng.random(2000))) > 0.7  # 1 / u, whose k is 1
    assert pareto_shape(np.zeros(100)) == -np.inf


def test_loo_is_near_the_log_density_of_draws_that_hardly_differ():
    import arviz as az

    found = az.loo(exported())
    assert found.n_data_points == ROWS
    elpd = found.elpd if hasattr(found, "elpd") else found.elpd_loo
    likelihood = groups()["log_likelihood"]["x"]
    assert elpd == pytest.approx(likelihood.mean((0, 1)).sum(), abs=0.5)


def test_loo_of_an_approximate_posterior_takes_log_p_and_log_q():
    stats = pytest.importorskip("arviz_stats", reason="arviz_stats comes with ArviZ 1.x")
    data = exported()
    log_p, log_q = (data["sample_stats"][name].values.ravel() for name in ("log_p", "log_q"))
    found = stats.loo_approximate_posterior(data, log_p, log_q)
    plain = stats.loo(data)
    assert found.elpd == pytest.approx(plain.elpd, abs=0.5)


def test_forest_plots_are_drawn():
    import matplotlib

    matplotlib.use("Agg")
    import arviz as az
    import matplotlib.pyplot as plt

    az.plot_forest(exported(), var_names=["edge_prob"], combined=False)
    plt.close("all")


def write(path):
    """By the ending of its name."""
    if Path(path).suffix == ".zarr":
        write_zarr(exported(), path)
    else:
        exported().to_netcdf(str(path))


def check_file(path, back):
    """In the other generation's Python."""
    assert_same(read_inference_data(path))
    write(back)


@pytest.mark.skipif(
    not Path(OTHER).exists() or Path(OTHER).resolve() == Path(sys.executable).resolve(),
    reason="no Python with ArviZ 1.x at hand: run `make test-arviz1` first, or set ARVIZ1_PYTHON",
)
@pytest.mark.parametrize("ending", [".nc", pytest.param(".zarr", marks=ZARR)])
def test_files_of_one_generation_open_in_the_other(tmp_path, ending):
    path, back = tmp_path / f"there{ending}", tmp_path / f"back{ending}"
    write(path)
    code = (
        f"from tests.inference.test_arviz_generations import check_file\n"
        f"check_file({str(path)!r}, {str(back)!r})"
    )
    result = subprocess.run(
        [OTHER, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert_same(read_inference_data(back))


def test_torch_is_not_needed():
    code = "import sys, pyro_metacadi.inference.arviz_tables; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_a_file_is_read_as_the_installed_container(tmp_path):
    exported().to_netcdf(str(tmp_path / "posterior.nc"))
    found = read_inference_data(tmp_path / "posterior.nc")
    assert type(found) is type(exported())
    assert isinstance(found["posterior"], xr.Dataset | xr.DataTree)
