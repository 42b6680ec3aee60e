import networkx as nx
import numpy as np
import pytest

from pyro_metacadi import TaskDataset, load_sachs
from pyro_metacadi.errors import ConfigError, DataError

ROWS = {
    "cd3cd28": 853,
    "cd3cd28_icam2": 902,
    "akt_inhibitor": 911,
    "g06976": 723,
    "psitectorigenin": 810,
    "u0126": 799,
    "ly294002": 848,
    "pma": 913,
    "b2camp": 707,
}


@pytest.fixture(scope="module")
def sachs():
    return load_sachs()


def test_every_condition_is_a_task_in_raw_units(sachs):
    assert dict(zip(sachs.tasks.tasks, sachs.tasks.num_rows, strict=True)) == ROWS
    assert " ".join(sachs.tasks.variables) == "Raf Mek PLCg PIP2 PIP3 Erk Akt PKA PKC p38 JNK"
    assert sachs.tasks.arrays[0][0, 0] == 26.4
    assert sachs.tasks.values.min() > 0


def test_the_graph_is_an_18_edge_dag_with_rows_as_causes(sachs):
    assert sachs.adjacency.shape == (11, 11)
    assert sachs.adjacency.sum() == 18
    assert nx.is_directed_acyclic_graph(
        nx.from_numpy_array(sachs.adjacency, create_using=nx.DiGraph)
    )
    at = sachs.tasks.variables.index
    assert sachs.adjacency[at("Raf"), at("Mek")] == 1
    assert sachs.adjacency[at("PIP3"), at("PIP2")] == 1
    assert sachs.adjacency[at("PIP2"), at("PIP3")] == 0


@pytest.mark.parametrize(
    ("convention", "hits"),
    [("reagent", [0, 0, 1, 1, 1, 1, 1, 1, 1]), ("activity", [0, 0, 1, 4, 1, 1, 2, 1, 6])],
)
def test_targets_follow_the_convention(sachs, convention, hits):
    targets = sachs.intervention_targets(convention=convention)
    assert targets.sum(axis=1).tolist() == hits
    mek, erk = (sachs.tasks.variables.index(name) for name in ("Mek", "Erk"))
    assert targets[5, [mek, erk]].tolist() == ([1, 0] if convention == "reagent" else [0, 1])


def test_conventions_name_only_conditions_and_proteins_that_exist(sachs):
    for targets in (sachs.targets, sachs.activity_targets):
        assert tuple(targets) == sachs.tasks.tasks
        assert {name for hit in targets.values() for name in hit} <= set(sachs.tasks.variables)


def test_a_piece_takes_the_targets_of_its_condition_and_columns_of_its_variables(sachs):
    part = sachs.tasks[["u0126", "pma"]].select(["PKC", "Mek"]).split_rows(300)
    expected = [[int("pma" in name), int("u0126" in name)] for name in part.tasks]
    np.testing.assert_array_equal(sachs.intervention_targets(part), expected)


def test_unknown_conventions_and_conditions_are_refused(sachs):
    with pytest.raises(ConfigError, match="expected 'reagent' or 'activity', got 'protein'"):
        sachs.intervention_targets(convention="protein")
    other = TaskDataset.from_arrays([np.ones((1, 2))], tasks=["u0216/1"])
    with pytest.raises(DataError, match=r"at task 'u0216/1'\. Did you mean 'u0126'"):
        sachs.intervention_targets(other)
