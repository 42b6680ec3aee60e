import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_rgb

from pyro_metacadi import metrics, plots
from pyro_metacadi.errors import ConfigError, DataError


def edges(num_variables=4):
    rng = np.random.default_rng(0)
    names = [f"gene{i}" for i in range(num_variables)]
    probs = rng.random((num_variables, num_variables)) * (1 - np.eye(num_variables))
    return xr.DataArray(probs, dims=("parent", "child"), coords={"parent": names, "child": names})


def targets(num_tasks=3, num_variables=4):
    return xr.DataArray(
        np.random.default_rng(1).random((num_tasks, num_variables)),
        dims=("task", "variable"),
        coords={
            "task": [f"task{i}" for i in range(num_tasks)],
            "variable": [f"gene{i}" for i in range(num_variables)],
        },
    )


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def outlined(ax):
    """Cells (row, column) that carry an outline."""
    return {(round(p.get_y() + 0.42), round(p.get_x() + 0.42)) for p in ax.patches}


def test_edge_heatmap_shows_the_probabilities_with_parents_as_rows():
    probs = edges()
    ax = plots.edge_heatmap(probs)
    np.testing.assert_array_equal(ax.images[0].get_array(), probs.values)
    assert ax.images[0].get_clim() == (0, 1)
    assert ax.get_ylabel() == "parent (cause)"
    assert ax.get_xlabel() == "child (effect)"
    assert labels(ax.yaxis) == labels(ax.xaxis) == list(probs.parent.values)
    assert ax.images[0].colorbar.ax.get_ylabel() == "probability of the edge"


def test_target_heatmap_shows_tasks_as_rows():
    ax = plots.target_heatmap(targets())
    assert labels(ax.yaxis) == ["task0", "task1", "task2"]
    assert labels(ax.xaxis) == ["gene0", "gene1", "gene2", "gene3"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("task", "variable")


def test_true_cells_and_only_those_are_outlined():
    truth = np.zeros((4, 4), dtype=int)
    truth[0, 3] = truth[2, 1] = 1
    assert outlined(plots.edge_heatmap(edges(), truth=truth)) == {(0, 3), (2, 1)}
    assert plots.edge_heatmap(edges()).get_legend() is None
    assert outlined(plots.target_heatmap(targets(), truth=truth[:3])) == {(0, 3), (2, 1)}
    assert not plots.target_heatmap(targets(), truth=np.zeros((3, 4))).patches


def frame(*, names=("gene1", "gene0")):
    """A known graph of two variables, gene0 -> gene1, in the order of `names`."""
    truth = pd.DataFrame(0, index=list(names), columns=list(names))
    if "gene1" in truth:
        truth.loc["gene0", "gene1"] = 1
    return truth


def test_axes_and_names_are_matched_not_positions():
    probs = edges(2)
    ax = plots.edge_heatmap(probs.transpose("child", "parent"), truth=frame())
    np.testing.assert_array_equal(ax.images[0].get_array(), probs.values)
    assert outlined(ax) == {(0, 1)}
    dims = {"dims": ("child", "parent"), "coords": {"child": ["gene0", "gene1"]}}
    assert outlined(plots.edge_heatmap(probs, truth=xr.DataArray([[0, 0], [1, 0]], **dims))) == {
        (0, 1)
    }


def test_darker_is_more_probable_in_greyscale_too():
    image = plots.edge_heatmap(edges()).images[0]
    grey = image.cmap(np.linspace(0, 1, 50))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) < 0).all()


def test_the_given_axes_are_drawn_on():
    from matplotlib.figure import Figure

    ax, _ = Figure().subplots(1, 2)
    assert plots.edge_heatmap(edges(), ax=ax) is ax

    assert plots.reliability([0.5], [1], ax=ax) is ax


def forecasts():
    probs = np.random.default_rng(2).beta(0.3, 1.5, size=300)
    return probs, np.random.default_rng(3).random(300) < probs


def test_reliability_draws_share_over_probability_with_intervals_and_counts():
    table = metrics.reliability(*forecasts(), num_bins=8).query("count > 0")
    ax = plots.reliability(*forecasts(), num_bins=8)
    points, _, (bars,) = ax.containers[0]
    np.testing.assert_array_equal(points.get_xdata(), table["mean_probability"])
    np.testing.assert_array_equal(points.get_ydata(), table["observed_share"])
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, table[["interval_low", "interval_high"]], atol=1e-12)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 0], [1, 1]])
    assert [text.get_text() for text in ax.texts] == [*map(str, table["count"]), "entries"]
    assert (ax.get_xlabel(), ax.get_ylabel()[:14]) == ("stated probability", "observed share")
    error = metrics.calibration(*forecasts(), num_bins=8)["ece"]
    assert ax.get_title() == f"n = 300, expected calibration error {error:.3f}"


def test_bins_without_entries_are_left_out():
    assert len(plots.reliability([0.05, 0.95], [0, 1]).patches) == 2


def test_the_diagonal_of_a_graph_is_not_counted():
    assert plots.reliability(edges(), np.zeros((4, 4))).get_title().startswith("n = 12,")


def test_reliability_is_grey_and_its_points_are_darkest():
    ax = plots.reliability(*forecasts())
    (line, points), bar = (ax.lines[0], ax.containers[0][0]), ax.patches[0]
    colours = points.get_color(), line.get_color(), bar.get_facecolor()
    assert [set(to_rgb(colour)) for colour in colours] == [{0.0}, {0.5}, {0.8}]


@pytest.mark.parametrize("num_bins", [1, 10, 20, 25, 60])
def test_what_is_written_fits_and_nothing_overlaps(num_bins):
    ax = plots.reliability(*forecasts(), num_bins=num_bins)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in (*ax.texts, ax.title, ax.xaxis.label)]
    figure = ax.figure.bbox
    assert all(figure.x0 <= b.x0 and b.x1 <= figure.x1 and b.y1 <= figure.y1 for b in boxes)
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


@pytest.mark.parametrize("num_variables", [1, 2, 50])
def test_labels_fit_their_cells(num_variables):
    ax = plots.edge_heatmap(edges(num_variables))
    ax.figure.canvas.draw()
    cell = ax.get_window_extent().height / num_variables
    assert all(t.get_window_extent().height <= cell for t in ax.get_yticklabels())


@pytest.mark.parametrize("extension", ["png", "pdf", "svg"])
def test_figures_are_saved(tmp_path, extension):
    path = tmp_path / f"edges.{extension}"
    plots.save_figure(plots.edge_heatmap(edges()), path)
    assert path.stat().st_size > 1000


def test_an_axes_of_a_subfigure_is_saved_as_the_whole_figure(tmp_path):
    from matplotlib.figure import Figure

    ax = Figure().subfigures(1, 2)[0].subplots()
    plots.save_figure(plots.target_heatmap(targets(), ax=ax), tmp_path / "targets.png")
    assert (tmp_path / "targets.png").exists()


@pytest.mark.parametrize("failure", ["folder", "full disk"])
def test_a_figure_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, failure):
    def full(self, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    ax, path = plots.edge_heatmap(edges()), tmp_path / "edges.png"
    if failure == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"old")
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(ConfigError, match=r"figure path: .*(directory|space).* Choose another"):
        plots.save_figure(ax, path)
    assert path.is_dir() if failure == "folder" else path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (
            lambda: plots.edge_heatmap(edges(), truth=np.zeros((3, 4))),
            DataError,
            r"truth: expected shape \[4, 4\] as the probabilities, got \[3, 4\]",
        ),
        (
            lambda: plots.edge_heatmap(edges() + 1.5),
            DataError,
            r"edge_probs: expected probabilities from 0 to 1, got 1\.5",
        ),
        (
            lambda: plots.edge_heatmap(targets()),
            DataError,
            r"edge_probs: expected the axes parent, child, got task, variable",
        ),
        (
            lambda: plots.edge_heatmap(edges()[:0, :0]),
            DataError,
            r"edge_probs: expected at least one row and column, got none",
        ),
        (
            lambda: plots.edge_heatmap(edges(2), truth=frame(names=["gene0", "gene7"])),
            DataError,
            r"truth, labels of axis parent: .* 'gene1' missing and 'gene7' unknown",
        ),
        (
            lambda: plots.edge_heatmap(edges(2), truth=[["a", "b"], ["c", "d"]]),
            DataError,
            r"truth: expected numbers, got 'a'",
        ),
        (lambda: plots.reliability([0.5], [0, 1]), DataError, r"truth: expected shape \[1\]"),
        (lambda: plots.reliability([0.5], [1], num_bins=0), ConfigError, "num_bins: .* got 0"),
        (lambda: plots.target_heatmap(targets() * np.nan), DataError, r"target_probs: .* got nan"),
        (
            lambda: plots.save_figure(plots.edge_heatmap(edges()), "edges.docx"),
            ConfigError,
            r"figure format: expected one of .*png.*, got '\.docx'",
        ),
        (
            lambda: plots.save_figure(plots.edge_heatmap(edges()), "nowhere/edges.png"),
            ConfigError,
            r"figure path: expected an existing folder, got 'nowhere'",
        ),
    ],
)
def test_bad_input_is_named(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


def test_drawing_leaves_matplotlib_alone():
    code = """
import sys
from pyro_metacadi import plots
assert not any(name.startswith("matplotlib") for name in sys.modules)
import numpy as np, xarray as xr
plots.edge_heatmap(xr.DataArray(np.zeros((2, 2)), dims=("parent", "child")))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
