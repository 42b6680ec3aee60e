"""Units of the evidence engine: chosen by the data, reversible, finite whatever the data are."""

import numpy as np
import pytest
from hypothesis import given

from pyro_metacadi import TaskDataset
from pyro_metacadi.data.representation import REPRESENTATIONS, Representation
from pyro_metacadi.errors import ConfigError, DataError
from tests.data.examples import datasets

SIZES = (40, 25, 35)
TINY = np.finfo(float).tiny


def dataset(values, sizes=SIZES):
    return TaskDataset.from_arrays(np.split(np.asarray(values, float), np.cumsum(sizes)[:-1]))


def rng(seed=0):
    return np.random.default_rng(seed)


def poisson(width=4, seed=0):
    rows = sum(SIZES)
    depth = rng(seed).lognormal(0, 0.5, (rows, 1))
    return rng(seed).poisson(depth * np.linspace(2, 30, width), (rows, width)).astype(float)


SHAPE = (sum(SIZES), 4)
DATA = {
    "normal": rng().normal(size=SHAPE),
    "positive normal": 50 + rng().normal(size=SHAPE),
    "gamma with zeros": rng().gamma(2, size=SHAPE) ** 1.2 * (rng(1).random(SHAPE) > 0.2),
    "scaled counts": poisson() * np.pi,
    "log-normal": rng().lognormal(size=SHAPE),
    "log-normal of one scale each": rng().lognormal([0, 5, 10, -20], [0.5, 1, 2, 1], SHAPE),
    "counts": poisson(),
    "levels": rng().integers(0, 3, SHAPE).astype(float),
    "all zeros": np.zeros(SHAPE),
}
CHOICE = {
    "normal": "identity",
    "positive normal": "identity",
    "gamma with zeros": "sqrt",
    "scaled counts": "sqrt",
    "log-normal": "log",
    "log-normal of one scale each": "log",
    "counts": "counts",
    "all zeros": "identity",
}
CASES = pytest.mark.parametrize("name", CHOICE)


@CASES
def test_the_choice_follows_the_data(name):
    assert Representation.fit(dataset(DATA[name])).kind == CHOICE[name]


@CASES
@pytest.mark.parametrize("factor", [1e-6, 1e-200, 1e6, 1e200])
def test_the_choice_between_powers_does_not_depend_on_units(name, factor):
    if CHOICE[name] == "counts":
        return
    scaled = Representation.fit(dataset(DATA[name] * factor))
    assert scaled.kind == CHOICE[name]
    here = Representation.fit(dataset(DATA[name])).transform(dataset(DATA[name]))
    there = scaled.transform(dataset(DATA[name] * factor))
    np.testing.assert_allclose(np.concatenate(there), np.concatenate(here), atol=1e-6)


INVERSE = {"identity": lambda y: y, "sqrt": np.square, "log": np.exp}


@pytest.mark.parametrize("kind", INVERSE)
def test_values_can_be_had_back(kind):
    values = DATA["log-normal of one scale each"]
    units = Representation.fit(dataset(values), kind=kind)
    assert (units.kind, units.num_covariates) == (kind, 0)
    standard = np.concatenate(units.transform(dataset(values)))
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(standard.std(0), 1)
    np.testing.assert_allclose(INVERSE[kind](standard * units.scale + units.mean), values)


def test_counts_and_depth_can_be_had_back():
    values = DATA["counts"]
    units = Representation.fit(dataset(values))
    columns = np.concatenate(units.transform(dataset(values))) * units.scale + units.mean
    assert columns.shape == (len(values), 5)
    counts, depth = np.expm1(columns[:, :4]), np.expm1(columns[:, 4])
    np.testing.assert_allclose(counts, values, atol=1e-9)
    np.testing.assert_allclose(depth, values.sum(1))


def test_the_covariate_of_counts_is_the_standardised_logarithm_of_depth():
    values = DATA["counts"]
    units = Representation.fit(dataset(values))
    assert units.num_covariates == 1
    depth = np.log1p(values.sum(1))
    expected = (depth - depth.mean()) / depth.std()
    np.testing.assert_allclose(np.concatenate(units.transform(dataset(values)))[:, 4], expected)


def test_rows_without_any_count_are_zero():
    values = DATA["counts"].copy()
    values[3] = 0
    units = Representation.fit(dataset(values))
    columns = np.concatenate(units.transform(dataset(values)))
    assert np.isfinite(columns).all()
    np.testing.assert_allclose(columns[3], -units.mean / units.scale)


def test_a_variable_counted_alone_needs_no_depth():
    values = poisson(width=1)
    units = Representation.fit(dataset(values))
    assert units.kind in ("identity", "sqrt", "log")
    assert np.concatenate(units.transform(dataset(values))).std() == pytest.approx(1)


def test_levels_and_floats_too_large_for_fractions_are_not_counts():
    assert Representation.fit(dataset(DATA["levels"])).kind in ("identity", "sqrt")
    assert Representation.fit(dataset(np.floor(DATA["log-normal"] * 1e20))).kind == "log"


@given(datasets())
def test_whatever_the_data_the_automatic_choice_is_finite(data):
    units = Representation.fit(data)
    rows = np.concatenate(units.transform(data))
    assert np.isfinite(rows).all()
    assert (units.scale > 0).all()
    scale, offset = units.law_units
    assert np.isfinite([scale, offset]).all()
    assert (scale > 0).all()


AWKWARD = {
    "one row": [[1.0, 2.0, 30.0]],
    "one variable": [[1.5], [2.5], [0.0]],
    "constants": [[0.3, 7.0], [0.3, 7.0], [0.1 + 0.2, 7.0]],
    "zeros": [[0.0, 0.0]] * 3,
    "subnormal": [[5e-324, 1.0], [1e-310, 2.0], [2e-308, 0.5]],
    "a constant beside one that varies": [[5.0, 0.2], [5.0, 0.7], [5.0, 9.5]],
    "millions": [[2.5e6, 1e6], [3.5e6, 4e6], [7.25e6, 1.5]],
    "whole and huge": [[1e300, 2e300], [3e300, 1.0], [1.7e308, 1.7e308]],
}


@pytest.mark.parametrize("kind", ["auto", *REPRESENTATIONS])
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_data_stay_finite_or_are_refused_by_name(name, kind):
    data = dataset(AWKWARD[name], sizes=(len(AWKWARD[name]),))
    if kind == "log" and data.values.min() == 0:
        with pytest.raises(ConfigError, match="more than 0, got 0"):
            Representation.fit(data, kind=kind)
        return
    units = Representation.fit(data, kind=kind)
    (rows,) = units.transform(data)
    assert np.isfinite(rows).all()
    assert np.isfinite([units.mean, units.scale]).all()
    assert (units.scale > 0).all()


def test_a_column_constant_up_to_rounding_does_not_choose():
    values = DATA["normal"].copy() + 50
    values[:, 0] = 0.3
    values[::2, 0] = np.nextafter(0.3, 1)
    values[::3, 0] = np.nextafter(0.3, 0)
    assert Representation.fit(dataset(values)).kind == "identity"


def test_new_values_below_what_the_transformation_is_for_are_raised_to_it():
    training = dataset(DATA["log-normal"])
    new = TaskDataset.from_arrays([[[-1.0, 0.0, 1.0, 2.0]]])
    lowest = {"sqrt": 0.0, "counts": 0.0, "log": TINY}
    for kind, value in lowest.items():
        units = Representation.fit(training, kind=kind)
        raised = TaskDataset.from_arrays([[[value, value, 1.0, 2.0]]])
        (got,), (expected,) = units.transform(new), units.transform(raised)
        assert np.isfinite(got).all()
        np.testing.assert_array_equal(got, expected)


def test_new_values_too_large_become_infinite_without_a_warning():
    units = Representation.fit(dataset([[0.0], [1e-300]], sizes=(2,)), kind="identity")
    (rows,) = units.transform(TaskDataset.from_arrays([[[1e300], [-1e300]]]))
    assert rows.ravel().tolist() == [np.inf, -np.inf]


def test_tasks_stay_apart_and_columns_are_matched_by_name():
    data = dataset(DATA["counts"])
    units = Representation.fit(data)
    expected = units.transform(data)
    assert [len(rows) for rows in expected] == list(SIZES)
    mixed = data.select(["X3", "X1", "X4", "X2"])
    for got, rows in zip(units.transform(mixed), expected, strict=True):
        np.testing.assert_allclose(got, rows)
    with pytest.raises(DataError, match="'X4' missing"):
        units.transform(data.select(["X1", "X2", "X3"]))


def test_the_laws_units_are_common_to_all_variables():
    units = Representation.fit(dataset(DATA["normal"] * [1, 2, 5, 10] + [0, 5, 1, 2]))
    scale, offset = units.law_units
    assert np.median(scale) == pytest.approx(1)
    np.testing.assert_allclose(scale / scale[0], units.scale / units.scale[0])
    np.testing.assert_allclose(offset / scale, units.mean / units.scale)
    extreme = Representation.fit(dataset(DATA["normal"] * [1e-250, 1, 1, 1e250] + [0, 0, 1e200, 0]))
    assert np.isfinite(np.square(extreme.law_units)).all()
    assert (np.square(extreme.law_units[0]) > 0).all()
    # Depth is no variable: it has no law.
    assert len(Representation.fit(dataset(DATA["counts"])).law_units[0]) == 4


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("cube", DATA["normal"], r"expected 'auto' or one of 'identity', .*got 'cube'"),
        ("", DATA["normal"], r"expected 'auto' or one of .*got ''"),
        ("sqrt", DATA["normal"], r"expected values for 'sqrt' of at least 0, got -.*'identity'"),
        ("counts", DATA["normal"], r"expected values for 'counts' of at least 0, got -"),
        ("log", DATA["normal"], r"expected values for 'log' of more than 0, got -"),
        ("log", DATA["counts"], r"expected values for 'log' of more than 0, got 0\. "),
    ],
)
def test_bad_kinds_are_named(kind, values, message):
    with pytest.raises(ConfigError, match=f"^representation: {message}"):
        Representation.fit(dataset(values), kind=kind)
