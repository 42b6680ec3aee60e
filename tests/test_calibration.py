"""Calibration is what its definition says: by hand, in extremes, for draws that keep their word."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest
from sklearn.metrics import brier_score_loss, log_loss

from pyro_metacadi import metrics
from pyro_metacadi.errors import ConfigError, DataError

PROBS, TRUTH = [0.1, 0.15, 0.6, 0.65, 1.0], [0, 1, 1, 0, 1]
NAMES, AXES = ["A", "B", "C"], ["parent", "child"]
CHAIN = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])  # A -> B -> C
EDGES = xr.DataArray(
    [[0.0, 0.9, 0.2], [0.1, 0.0, 0.7], [0.3, 0.4, 0.0]],
    dims=("parent", "child"),
    coords={"parent": NAMES, "child": NAMES},
    name="edge_probs",
)
OFF = ~np.eye(3, dtype=bool)

entries = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def drawn(size, *, seed, stated=lambda p: p):
    """Probabilities as stated, and truth drawn from those behind them."""
    rng = np.random.default_rng(seed)
    probs = rng.beta(0.5, 1.5, size)
    return stated(probs), (rng.random(size) < probs).astype(int)


def test_scores_by_hand():
    scores = metrics.calibration(PROBS, TRUTH)
    # Bins [.1, .2): .125 stated, .5 seen; [.6, .7): .625 and .5; [.9, 1]: 1 and 1.
    assert scores["ece"] == pytest.approx((2 * 0.375 + 2 * 0.125 + 0) / 5)
    assert scores["brier"] == pytest.approx((0.1**2 + 0.85**2 + 0.4**2 + 0.65**2) / 5)
    excess = -0.1 * 0.8 + 0.85 * 0.7 + 0.4 * -0.2 + -0.65 * -0.3
    variance = 0.64 * 0.09 + 0.49 * 0.1275 + 0.04 * 0.24 + 0.09 * 0.2275
    assert scores["spiegelhalter_z"] == pytest.approx(excess / math.sqrt(variance))
    assert scores["log_loss"] == pytest.approx(-math.log(0.9 * 0.15 * 0.6 * 0.35) / 5)
    assert (scores["mean_probability"], scores["base_rate"]) == (pytest.approx(0.5), 0.6)
    assert all(type(value) is float for value in scores.values())


def test_brier_and_log_loss_equal_sklearn():
    probs, truth = drawn(500, seed=0)
    scores = metrics.calibration(probs, truth)
    assert scores["brier"] == pytest.approx(brier_score_loss(truth, probs))
    assert scores["log_loss"] == pytest.approx(log_loss(truth, probs))


@pytest.mark.parametrize(
    ("probs", "truth", "expected"),
    [
        ([0, 1], [0, 1], {"ece": 0, "brier": 0, "spiegelhalter_z": 0, "log_loss": 0}),
        ([0, 1], [1, 0], {"ece": 1, "brier": 1, "spiegelhalter_z": math.inf, "log_loss": math.inf}),
        ([0.5] * 4, [1, 1, 1, 0], {"ece": 0.25, "brier": 0.25, "spiegelhalter_z": 0}),
        (0.25, 1, {"ece": 0.75, "brier": 0.75**2}),
    ],
    ids=["certain and right", "certain and wrong", "a half everywhere", "one number"],
)
def test_extremes_are_defined(probs, truth, expected):
    scores = metrics.calibration(probs, truth)
    assert {name: scores[name] for name in expected} == expected
    assert math.copysign(1, scores["log_loss"]) == 1


@given(st.integers(1, 50), st.data(), st.integers(1, 30))
def test_stating_the_base_rate_everywhere_is_calibrated(size, data, num_bins):
    truth = data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    rate = np.mean(truth)
    scores = metrics.calibration(np.full(size, rate), truth, num_bins=num_bins)
    assert scores["ece"] == pytest.approx(0, abs=1e-12)
    assert scores["brier"] == pytest.approx(rate * (1 - rate))
    assert scores["spiegelhalter_z"] == pytest.approx(0, abs=1e-6)


@given(entries, st.integers(1, 30))
def test_scores_stay_in_their_range(pairs, num_bins):
    probs, truth = np.array(pairs).T
    scores = metrics.calibration(probs, truth, num_bins=num_bins)
    assert 0 <= scores["ece"] <= 1
    assert 0 <= scores["brier"] <= 1
    assert scores["log_loss"] >= 0
    assert not math.isnan(scores["spiegelhalter_z"])


@given(entries)
def test_ece_is_at_least_the_gap_of_the_means_and_is_it_for_one_bin(pairs):
    probs, truth = np.array(pairs).T
    gap = abs(probs.mean() - truth.mean())
    assert metrics.calibration(probs, truth)["ece"] >= gap - 1e-12
    assert metrics.calibration(probs, truth, num_bins=1)["ece"] == pytest.approx(gap)


@given(entries)
def test_reliability_holds_every_entry_once_and_gives_the_ece(pairs):
    probs, truth = np.array(pairs).T
    table = metrics.reliability(probs, truth, num_bins=7).query("count > 0")
    gaps = (table["mean_probability"] - table["observed_share"]).abs()
    assert table["count"].sum() == len(pairs)
    ece = metrics.calibration(probs, truth, num_bins=7)["ece"]
    assert (gaps * table["count"]).sum() / len(pairs) == pytest.approx(ece)
    inside = table["mean_probability"].between(table["low"] - 1e-12, table["high"] + 1e-12)
    assert inside.all()


def test_z_is_standard_normal_for_draws_from_the_stated_probabilities():
    z = [metrics.calibration(*drawn(400, seed=s))["spiegelhalter_z"] for s in range(500)]
    assert abs(np.mean(z)) < 0.1
    assert np.std(z) == pytest.approx(1, abs=0.1)
    assert kstest(z, "norm").pvalue > 0.01


def test_z_tells_too_sure_from_not_sure_enough():
    sharper = metrics.calibration(
        *drawn(4000, seed=1, stated=lambda p: p**2 / (p**2 + (1 - p) ** 2))
    )
    vaguer = metrics.calibration(*drawn(4000, seed=1, stated=lambda p: 0.25 + p / 2))
    assert sharper["spiegelhalter_z"] > 5
    assert vaguer["spiegelhalter_z"] < -5


def test_ece_of_calibrated_draws_falls_with_their_number():
    few, many = (metrics.calibration(*drawn(n, seed=2))["ece"] for n in (100, 100_000))
    assert many < 0.01 < few


def test_reliability_by_hand():
    table = metrics.reliability(PROBS, TRUTH, num_bins=5)
    assert ",".join(table) == (
        "low,high,count,mean_probability,observed_share,interval_low,interval_high"
    )
    assert table["low"].tolist() == [0, 0.2, 0.4, 0.6, 0.8]
    assert table["high"].tolist() == [0.2, 0.4, 0.6, 0.8, 1]
    assert table["count"].tolist() == [2, 0, 0, 2, 1]
    np.testing.assert_allclose(table["mean_probability"], [0.125, np.nan, np.nan, 0.625, 1])
    np.testing.assert_allclose(table["observed_share"], [0.5, np.nan, np.nan, 0.5, 1])
    assert table.loc[1, ["interval_low", "interval_high"]].isna().all()


@pytest.mark.parametrize(("ones", "count"), [(0, 5), (1, 1), (3, 10), (40, 41)])
def test_intervals_are_wilson_s(ones, count):
    row = metrics.reliability(np.full(count, 0.5), np.arange(count) < ones, num_bins=1).iloc[0]
    low, high = binomtest(ones, count).proportion_ci(0.95, method="wilson")
    assert (row["interval_low"], row["interval_high"]) == pytest.approx((low, high))


@pytest.mark.parametrize("num_bins", [1, 3, 10, 49, 100])
def test_an_edge_opens_its_bin_and_one_belongs_to_the_last(num_bins):
    probs = np.arange(num_bins + 1) / num_bins
    counts = metrics.reliability(probs, np.ones(num_bins + 1), num_bins=num_bins)["count"]
    assert counts.tolist() == [1] * (num_bins - 1) + [2]


class TestNames:
    def test_the_diagonal_of_a_graph_is_not_read(self):
        expected = metrics.calibration(EDGES.values[OFF], CHAIN[OFF])
        filled = EDGES.copy(data=np.where(OFF, EDGES, np.nan))
        assert metrics.calibration(EDGES, CHAIN) == expected
        assert metrics.calibration(filled, CHAIN) == expected
        assert metrics.calibration(filled.drop_vars(AXES), CHAIN) == expected
        assert metrics.calibration(EDGES.values, CHAIN) != expected
        assert metrics.reliability(EDGES, CHAIN)["count"].sum() == 6

    def test_it_is_found_by_name_where_only_some_parents_are_scored(self):
        some = metrics.calibration(EDGES[1:], CHAIN[1:])
        assert some == metrics.calibration(EDGES.values[1:][OFF[1:]], CHAIN[1:][OFF[1:]])

    def test_axes_and_names_are_matched_not_positions(self):
        expected = metrics.calibration(EDGES, CHAIN)
        truth = EDGES.copy(data=CHAIN)[[2, 0, 1], [1, 2, 0]]
        for turned in (EDGES, EDGES.T):
            for known in (CHAIN, truth, truth.T, truth.to_pandas()):
                assert metrics.calibration(turned, known) == expected
        assert metrics.calibration(EDGES.values, truth.sortby(AXES)) == expected

    def test_frames_are_matched_too_and_have_no_diagonal(self):
        frame = pd.DataFrame(EDGES.values, NAMES, NAMES)
        truth = pd.DataFrame(CHAIN, NAMES, NAMES)
        expected = metrics.calibration(EDGES.values, CHAIN)
        assert metrics.calibration(frame, truth.loc[::-1, ["B", "A", "C"]]) == expected

    def test_other_axes_keep_their_order(self):
        probs = xr.DataArray([[0.1, 0.8, 0.3]], dims=("run", "gene"))
        expected = metrics.calibration([0.1, 0.8, 0.3], [0, 1, 1])
        assert metrics.calibration(probs, [[0, 1, 1]]) == expected
        assert metrics.calibration(probs, probs.copy(data=[[0, 1, 1]]).T) == expected


def test_overshooting_by_rounding_is_no_error():
    scores = metrics.calibration(np.array([1 + 1e-7, -1e-7]), [1, 0])
    assert (scores["ece"], scores["brier"], scores["log_loss"]) == (0, 0, 0)


@pytest.mark.parametrize("score", [metrics.calibration, metrics.reliability])
@pytest.mark.parametrize(
    ("probs", "truth", "message"),
    [
        ([0.5], [1, 0], r"truth: expected shape \[1\] as probabilities, got \[2\]\. Pass one"),
        ([[0.5, 0.5]], [1, 0], r"truth: expected shape \[1, 2\] .* got \[2\]"),
        ([0.5, 1.5], [1, 0], r"probabilities: expected numbers from 0 to 1, got 1\.5 at \[1\]\. P"),
        ([[0.5, -0.1]], [[1, 0]], r"probabilities: .* got -0\.1 at \[0, 1\]"),
        ([0.5, np.nan], [1, 0], r"probabilities: .* got nan at \[1\]"),
        ([0.5, np.inf], [1, 0], r"probabilities: .* got inf at \[1\]"),
        ([0.5, "x"], [1, 0], "probabilities: expected numbers, got '0.5'"),
        ([0.5, None], [1, 0], "probabilities: expected numbers, got None"),
        ([0.5, 0.5], [1, 2], r"truth: expected 0 or 1, got 2 at \[1\]\. Threshold it first"),
        ([0.5, 0.5], [1, 0.5], r"truth: expected 0 or 1, got 0\.5 at \[1\]"),
        ([0.5, 0.5], [1, np.nan], r"truth: expected 0 or 1, got nan at \[1\]"),
        ([0.5, 0.5], ["a", "b"], "truth: expected numbers, got 'a'"),
        ([], [], "probabilities: expected at least one entry to score, got none"),
        (EDGES[:1, :1], [[0]], "edge_probs: expected at least one entry to score, got none"),
        (EDGES + 0.5, CHAIN, r"edge_probs: .* got 1\.4 at parent 'A', child 'B'\. Pass"),
        (EDGES, CHAIN * 3, r"truth: expected 0 or 1, got 3 at parent 'A', child 'B'"),
        (EDGES, pd.DataFrame(CHAIN, NAMES, ["A", "B", "Z"]), "axis child: .*'C' missing and 'Z'"),
        (EDGES, xr.DataArray(CHAIN), "truth: expected the axes parent, child, got dim_0, dim_1"),
        (EDGES[0], CHAIN[0], "edge_probs: expected a DataArray over two axes, got child"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(score, probs, truth, message):
    with pytest.raises(DataError, match=message):
        score(probs, truth)


@pytest.mark.parametrize("score", [metrics.calibration, metrics.reliability])
@pytest.mark.parametrize("num_bins", [0, -3, True])
def test_bins_are_counted(score, num_bins):
    with pytest.raises(ConfigError, match=f"num_bins: expected .*, got {num_bins}. Pass 1 or more"):
        score(PROBS, TRUTH, num_bins=num_bins)


def test_calibration_is_numpy_only():
    code = (
        "import sys, pyro_metacadi.metrics as m; m.calibration([0.5], [1], num_bins=3);"
        "sys.exit(str([m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
