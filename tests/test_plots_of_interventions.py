"""Pictures of effects and of mechanisms."""

from functools import cache

import numpy as np
import pytest
import xarray as xr

from pyro_metacadi import TaskDataset, plots
from pyro_metacadi.errors import ConfigError, DataError
from tests.helpers import evidence_estimator, tiny_tasks


def effects(num_variables=5, *, names=None):
    rng = np.random.default_rng(0)
    names = names or [f"gene{at}" for at in range(num_variables)]
    mean = rng.normal(size=(2, len(names)))
    dims, one = ("cause", "effect"), np.ones(2)
    return xr.Dataset(
        {
            **{"mean": (dims, mean), "lower": (dims, mean - 0.4), "upper": (dims, mean + 0.2)},
            "path_prob": (dims, rng.random(mean.shape)),
            **{"start": ("cause", 0 * one), "end": ("cause", one)},
            "deviation": ("effect", np.linspace(1, 3, len(names))),
        },
        coords={"cause": names[:2], "effect": names},
        attrs={"interval": 0.9, "seed": 0},
    )


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_effects_are_shown_in_deviations_the_largest_on_top():
    found = effects()
    ax = plots.intervention_effect(found, "gene1")
    own = (found["mean"] / found["deviation"]).sel(cause="gene1").drop_sel(effect="gene1")
    order = np.argsort(-np.abs(own.values))
    assert labels(ax.yaxis) == own["effect"].values[order].tolist()
    (dots,) = (c for c in ax.collections if len(c.get_offsets()) == 4 and c.get_array() is not None)
    np.testing.assert_allclose(dots.get_offsets()[:, 0], own.values[order])
    path = found["path_prob"].sel(cause="gene1").drop_sel(effect="gene1")
    np.testing.assert_allclose(dots.get_array(), path.values[order])
    assert ax.get_title() == "gene1 held at 1 instead of 0"
    assert "90 % interval" in ax.get_xlabel()
    assert ax.yaxis_inverted()


def test_the_largest_of_many_effects_are_shown_and_the_title_says_so(tmp_path):
    ax = plots.intervention_effect(effects(500), "gene0")
    assert len(labels(ax.yaxis)) == 30
    assert "(the 30 largest of 499 effects)" in ax.get_title()
    plots.save_figure(ax, tmp_path / "effects.png")


def test_names_are_shown_as_they_are(tmp_path):
    names = ["$a", "b_$x^", "<b>ü</b>", "a/b c"]
    ax = plots.intervention_effect(effects(names=names), "$a")
    assert set(labels(ax.yaxis)) == set(names[1:])
    plots.save_figure(ax, tmp_path / "effects.png")
    ax = plots.mechanism_curves(awkward().posterior, "$a", "b_$x^", num_graphs=2, num_rows=3)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$a", "b_$x^")
    plots.save_figure(ax, tmp_path / "curves.png")


@cache
def awkward():
    """A fit whose names are no formulas; shared, so leave it as it is."""
    arrays, names = tiny_tasks().arrays, ["$a", "b_$x^", "<b>ü</b>"]
    known = np.zeros((4, 3), dtype=np.int8)
    known[0, 1] = 1
    tasks = [f"{name} $" for name in "uvwx"]
    data = TaskDataset.from_arrays(arrays, variables=names, tasks=tasks, known_targets=known)
    return evidence_estimator(num_draws=10, warmup=5).fit(data, progress=False)


def test_mechanism_curves_show_rows_mechanism_and_hits():
    posterior = awkward().posterior
    options = {"num_graphs": 3, "num_rows": 4, "seed": 1}
    ax = plots.mechanism_curves(posterior, "<b>ü</b>", "b_$x^", **options)
    curves = posterior.mechanism_curves("<b>ü</b>", "b_$x^", **options)
    assert curves["task"].values.tolist() == ["u $"]
    mechanism, hit = ax.get_lines()
    np.testing.assert_array_equal(mechanism.get_xydata().T[1], curves["mean"])
    np.testing.assert_array_equal(hit.get_xydata().T[1], curves["interventional"][0])
    points = [c.get_offsets() for c in ax.collections if len(c.get_offsets()) > 1]
    assert sorted(map(len, points)) == [9 + 12 + 7, 12][::-1]
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "u $, which hit b_$x^" in texts
    edge = float(posterior.edge_probs.sel(parent="<b>ü</b>", child="b_$x^"))
    assert ax.get_title() == f"<b>ü</b> → b_$x^: probability {edge:.2f}"


def test_pictures_are_drawn_on_given_axes():
    from matplotlib.figure import Figure

    first, second = Figure().subplots(1, 2)
    assert plots.intervention_effect(effects(), "gene0", ax=first) is first
    options = {"num_graphs": 2, "num_rows": 2}
    assert (
        plots.mechanism_curves(awkward().posterior, "$a", "b_$x^", ax=second, **options) is second
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plots.intervention_effect(3, "gene0"), DataError, "effects: expected a dataset"),
        (
            lambda: plots.intervention_effect(effects().drop_vars("mean"), "gene0"),
            DataError,
            r"Pass posterior\.causal_effects\(\)",
        ),
        (lambda: plots.intervention_effect(effects(), "gene4"), DataError, "cause: expected a kno"),
        (
            lambda: plots.intervention_effect(effects(), "gene0", max_shown=0),
            ConfigError,
            "max_shown: expected at least 1",
        ),
        (
            lambda: plots.intervention_effect(effects().sel(effect=["gene0"]), "gene0"),
            DataError,
            "effects: expected another variable than the cause 'gene0', got none",
        ),
        (lambda: plots.mechanism_curves(3, "a", "b"), DataError, r"posterior: .* got int\. Pass"),
        (
            lambda: plots.mechanism_curves(awkward().posterior, "$a", "c"),
            DataError,
            "child: expected a known name",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
