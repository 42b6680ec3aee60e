"""The graph, one task's targets, the course of a fit; names as they are, and the strongest part."""

import io
import warnings
from xml.etree import ElementTree as ET

import networkx as nx
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from pyro_metacadi import plots
from pyro_metacadi.errors import ConfigError, DataError
from pyro_metacadi.plots._layers import layered_layout
from tests.helpers import evidence_fit, fitted

AWKWARD = ["a b", "x/y", "$\\alpha$", "<script>alert(1)</script>", "\"q\" & 'r'", "Ünï→ß", "_^{}"]
POSITIONS = st.integers(0, 9)


def edges(probs, names=None):
    probs = np.asarray(probs, dtype=float)
    names = names or [f"gene{i}" for i in range(len(probs))]
    return xr.DataArray(probs, dims=("parent", "child"), coords={"parent": names, "child": names})


def targets(probs, names=None, dims=("task", "variable")):
    probs = np.asarray(probs, dtype=float)
    names = names or [f"gene{i}" for i in range(probs.shape[-1])]
    tasks = [f"task{i}" for i in range(probs.shape[-2])]
    return xr.DataArray(probs, dims=dims, coords={"task": tasks, "variable": names})


def chain_graph():
    """gene0 -> gene1 (.9) -> gene2 (.6), gene3 alone, and an edge that is not probable."""
    probs = np.zeros((4, 4))
    probs[0, 1], probs[1, 2], probs[2, 3] = 0.9, 0.6, 0.3
    return edges(probs)


def arrows(ax):
    return [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]


def places(ax):
    return {text.get_text(): text.get_position() for text in ax.texts}


@given(st.lists(st.tuples(POSITIONS, POSITIONS).filter(lambda e: e[0] != e[1]), unique=True))
def test_effects_are_to_the_right_of_causes_and_nothing_shares_a_place(given_edges):
    layout = layered_layout(given_edges)
    layer = {place: at for at, places in enumerate(layout.layers) for place in places}
    assert sorted([*layout.routes, *layout.backward]) == sorted(given_edges)
    for (parent, child), route in layout.routes.items():
        assert [layer[place] for place in route] == list(range(layer[parent], layer[child] + 1))
    forward = nx.DiGraph(list(layout.routes))
    assert nx.is_directed_acyclic_graph(forward)
    assert all(nx.has_path(forward, child, parent) for parent, child in layout.backward)
    for places in layout.layers:
        gaps = np.diff([layout.height[place] for place in places])
        assert (gaps >= 0.5 - 1e-6).all()


def test_an_acyclic_graph_has_no_edge_that_goes_back_whatever_comes_first():
    rng = np.random.default_rng(0)
    dag = np.argwhere(np.triu(rng.random((12, 12)) < 0.4, 1))
    given_edges = [(int(i), int(j)) for i, j in rng.permutation(dag)]
    assert layered_layout(given_edges).backward == []


def test_of_a_cycle_the_last_edge_goes_back():
    assert layered_layout([(0, 1), (1, 2), (2, 0)]).backward == [(2, 0)]


def test_wider_and_darker_is_more_probable_and_what_is_improbable_is_left_out():
    ax = plots.graph(chain_graph())
    thin, thick = arrows(ax)
    assert thick.get_linewidth() / thin.get_linewidth() == pytest.approx(0.9 / 0.6)
    assert sum(to_rgb(thick.get_edgecolor())) < sum(to_rgb(thin.get_edgecolor()))
    where = places(ax)
    assert where["gene0"][0] < where["gene1"][0] < where["gene2"][0]
    assert where["gene3"][1] < min(where[f"gene{i}"][1] for i in range(3))
    assert ax.get_title(loc="left") == "edges with P ≥ 0.5"
    assert len(arrows(plots.graph(chain_graph(), threshold=0.2))) == 3


def test_known_edges_have_a_halo_and_missed_ones_are_dashed():
    truth = np.zeros((4, 4))
    truth[0, 1] = truth[3, 0] = 1
    ax = plots.graph(chain_graph(), truth=truth)
    missed = [arrow for arrow in arrows(ax) if arrow.get_linestyle() != "solid"]
    halos = [arrow for arrow in arrows(ax) if arrow.get_alpha()]
    assert (len(missed), len(halos), len(arrows(ax))) == (1, 1, 4)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[-2:] == ["known edge", "known, P < 0.5"]
    assert places(ax)["gene3"][0] < places(ax)["gene0"][0]


def test_a_cycle_of_mean_probabilities_is_drawn():
    probs = np.zeros((3, 3))
    probs[0, 1], probs[1, 2], probs[2, 0] = 0.9, 0.8, 0.6
    ax = plots.graph(edges(probs))
    assert len(arrows(ax)) == 3
    ax.figure.canvas.draw()


@pytest.mark.parametrize("num_variables", [1, 50])
def test_names_fit_their_boxes_and_boxes_are_apart(num_variables):
    rng = np.random.default_rng(1)
    probs = np.triu(rng.random((num_variables, num_variables)) < 0.06, 1).astype(float)
    ax = plots.graph(edges(probs))
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == num_variables
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    assert all(b.x0 >= 0 and b.x1 <= ax.figure.bbox.x1 for b in boxes)


def test_of_500_variables_the_strongest_part_is_shown_and_the_title_says_so():
    rng = np.random.default_rng(2)
    probs = np.triu(rng.random((500, 500)) ** 4, 1)
    busy = np.argsort(-(probs.sum(0) + probs.sum(1)))[:50]
    ax = plots.graph(edges(probs))
    assert set(places(ax)) == {f"gene{at}" for at in busy}
    assert len(arrows(ax)) == 100
    title = ax.get_title(loc="left")
    assert title.startswith("50 of 500 variables, by their expected number of edges;")
    assert "the 100 most probable of" in title
    heat = plots.edge_heatmap(edges(probs))
    assert heat.images[0].get_array().shape == (50, 50)
    assert {label.get_text() for label in heat.get_yticklabels()} == set(places(ax))
    assert heat.get_title(loc="left").startswith("50 of 500 variables")


def test_heat_maps_of_many_tasks_keep_the_most_probable_targets_and_their_truth():
    probs = np.full((80, 120), 0.01)
    hit = np.arange(0, 80, 2)
    probs[hit, hit] = 0.9
    ax = plots.target_heatmap(targets(probs), truth=probs > 0.5)
    assert ax.images[0].get_array().shape == (50, 50)
    assert ax.get_title(loc="left") == (
        "50 of 80 tasks and 50 of 120 variables, by their most probable target"
    )
    assert len(ax.patches) == 2 * len(hit)  # each with a halo
    assert plots.target_heatmap(targets(probs[:3, :4])).get_title(loc="left") == ""


def test_targets_are_ranked_with_the_spread_over_graphs():
    by_graph = np.zeros((2, 10, 2, 3))
    by_graph[..., 1, :] = [0.5, 0.2, 0.9]
    by_graph[1, :, 1, 0] = 0.7
    ax = plots.ranked_targets(
        targets(by_graph, dims=("chain", "draw", "task", "variable")), "task1", truth=["gene1"]
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["gene2", "gene0", "gene1"]
    dots, ring = ax.lines
    np.testing.assert_allclose(dots.get_xdata(), [0.9, 0.6, 0.2])
    np.testing.assert_array_equal(ring.get_ydata(), [2])
    bars = [segment[:, 0] for segment in ax.collections[0].get_segments()]
    np.testing.assert_allclose(bars, [[0.9, 0.9], [0.5, 0.7], [0.2, 0.2]])
    assert ax.get_title(loc="left") == "task1\nbars: under 90 % of 20 sampled graphs"


def test_a_posterior_gives_what_is_drawn():
    posterior = evidence_fit().posterior
    ax = plots.ranked_targets(posterior.target_probs_by_graph(), posterior.tasks.tasks[0])
    best = posterior.rank_targets().query("rank == 1").variable.iloc[0]
    assert ax.get_yticklabels()[0].get_text() == best
    assert len(plots.ranked_targets(posterior.target_probs, "task1").collections) == 1  # no bars


def test_only_the_most_probable_of_many_variables_are_listed():
    ax = plots.ranked_targets(targets(np.linspace(0, 1, 500)[None]), "task0")
    assert len(ax.get_yticklabels()) == 20
    assert "the 20 most probable of 500 variables" in ax.get_title(loc="left")


def test_every_term_of_a_fit_has_a_line_and_steps_stay_where_they_were():
    history = fitted(2).history
    ax = plots.loss_terms(history)
    assert len(ax.lines) == 2 * len(history)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == "loss"
    assert sorted(labels) == sorted(name.replace("_", " ") for name in history)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), history["loss"][0], rtol=1e-6)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2, 3, 4])


def test_long_series_are_means_and_the_axis_says_of_how_many():
    steps = np.arange(1.0, 1001)
    padded = np.stack([steps, np.where(steps <= 501, steps, np.nan)])
    ax = plots.loss_terms({"loss": padded, "kl": 1e-3 * steps})
    assert ax.get_xlabel() == "step (means of 4)"
    assert ax.get_yscale() == "symlog"
    first, short = ax.lines[:2]
    np.testing.assert_allclose(first.get_ydata(), first.get_xdata())  # the mean step, and its loss
    assert short.get_ydata()[-1] == 501


def test_chains_of_the_evidence_engine_have_a_line_each():
    ax = plots.loss_terms(evidence_fit().history)
    assert (len(ax.lines), ax.get_xlabel()) == (2, "draw")
    assert "log score" in ax.get_ylabel()
    flat = plots.loss_terms({"loss": np.full(50, 1234.5)})
    assert np.ptp(flat.get_ylim()) == pytest.approx(2)


def test_names_are_shown_as_they_are():
    d = len(AWKWARD)
    probs = np.triu(np.ones((d, d)), 1)
    for ax in (
        plots.graph(edges(probs, AWKWARD)),
        plots.edge_heatmap(edges(probs, AWKWARD)),
        plots.target_heatmap(targets(probs, AWKWARD)),
        plots.ranked_targets(targets(probs, AWKWARD), "task0"),
    ):
        ax.figure.canvas.draw()
        texts = [*ax.texts, *ax.get_yticklabels(), *ax.get_xticklabels()]
        drawn = [text for text in texts if text.get_text() in AWKWARD]
        assert {text.get_text() for text in drawn} == set(AWKWARD)
        assert not any(text.get_parse_math() for text in drawn)


def test_long_names_keep_both_ends():
    ax = plots.ranked_targets(targets([[0.5]], ["begin" + "x" * 100 + "end"]), "task0")
    (label,) = ax.get_yticklabels()
    text = label.get_text()
    assert len(text) == 40
    assert text.startswith("begin")
    assert text.endswith("end")


def test_the_given_axes_are_drawn_on():
    ax = Figure().subplots()
    assert plots.graph(chain_graph(), ax=ax) is ax
    assert plots.loss_terms({"loss": [1.0, 2.0]}, ax=ax) is ax
    assert plots.ranked_targets(targets([[0.5]]), "task0", ax=ax) is ax


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (
            lambda: plots.graph(chain_graph(), threshold=0),
            ConfigError,
            "threshold: expected .* got 0",
        ),
        (
            lambda: plots.graph(chain_graph(), max_variables=0),
            ConfigError,
            "max_variables: .* got 0",
        ),
        (lambda: plots.graph(chain_graph(), max_edges=1.5), ConfigError, r"max_edges: .* got 1\.5"),
        (lambda: plots.graph(chain_graph(), truth=np.eye(3)), DataError, r"truth: .* got \[3, 3\]"),
        (lambda: plots.graph(targets([[0.5]])), DataError, "edge_probs: expected the axes parent"),
        (
            lambda: plots.edge_heatmap(chain_graph(), max_shown=0),
            ConfigError,
            "max_shown: .* got 0",
        ),
        (
            lambda: plots.ranked_targets(targets([[0.5]]), "task1"),
            DataError,
            "task: expected a known name, got 'task1'. Did you mean 'task0'",
        ),
        (
            lambda: plots.ranked_targets(targets([[0.5]]), "task0", truth=["gene9"]),
            DataError,
            "truth: expected names of variables, got 'gene9'",
        ),
        (
            lambda: plots.ranked_targets(targets([[0.5]]), "task0", max_shown=0),
            ConfigError,
            "max_shown: .* got 0",
        ),
        (
            lambda: plots.ranked_targets(targets([[1.5]]), "task0"),
            DataError,
            r"target_probs: expected probabilities from 0 to 1, got 1\.5",
        ),
        (lambda: plots.ranked_targets([[0.5]], "task0"), DataError, "expected a DataArray"),
        (lambda: plots.loss_terms({}), DataError, "history: expected at least one series"),
        (lambda: plots.loss_terms({"loss": 3.0}), DataError, r"history of loss: .* got shape \[\]"),
        (
            lambda: plots.loss_terms({"loss": [np.nan]}),
            DataError,
            r"history of loss: .* with 0 numbers",
        ),
        (
            lambda: plots.loss_terms({"loss": ["a"]}),
            DataError,
            "history of loss: expected numbers",
        ),
    ],
)
def test_bad_input_is_named(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("a\x0bb\x1b\uffff")
@settings(max_examples=20, deadline=None)
def test_any_name_makes_a_vector_image_that_readers_of_xml_take(name):
    ax, file = plots.graph(edges(np.zeros((2, 2)), [name, "x" + name])), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        ax.figure.savefig(file, format="svg")
    assert ET.fromstring(file.getvalue()).tag.endswith("svg")
