"""A saved world is tables for everybody and, loaded, the same world: truth, system and density."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIWarning
from pyro_metacadi.simulators import World, gp_anm, linear_anm, nn_anm, sergio

FILES = ["adjacency.csv", "intervention_targets.csv", "tasks.csv", "world.json"]
SMALL = {"num_variables": 4, "num_tasks": 3, "num_samples": [5, 2, 7], "seed": 3}
CHAIN = np.eye(4, k=1)


@pytest.fixture
def folder(tmp_path):
    gp_anm(**SMALL).save(tmp_path / "world")
    return tmp_path / "world"


def same(first, second):
    np.testing.assert_allclose(first.tasks.values, second.tasks.values, rtol=1e-12)
    assert (first.tasks.tasks, first.tasks.variables) == (
        second.tasks.tasks,
        second.tasks.variables,
    )
    assert (first.tasks.num_rows == second.tasks.num_rows).all()
    assert (first.adjacency == second.adjacency).all()
    assert (first.intervention_targets == second.intervention_targets).all()


@pytest.mark.parametrize(
    "world",
    [
        gp_anm(**SMALL),
        gp_anm(**SMALL, intervention="mechanism", targets_per_task=np.array([0, 1, 2])),
        gp_anm(**SMALL, graph=CHAIN, noise_scale=np.float64(0.2)),
        nn_anm(num_variables=3, seed=0),
        linear_anm(**SMALL, expected_edges=2),
        gp_anm(**SMALL, intervention="mechanism").sample_tasks(2, [3, 4], seed=1),
        gp_anm(**SMALL).sample_tasks(2, 3, seed=1).sample_tasks(3, 2, seed=2, targets_per_task=2),
    ],
    ids=["names", "redrawn", "matrix", "networks", "linear", "new tasks", "newer tasks"],
)
def test_a_loaded_world_is_the_saved_one(world, tmp_path):
    world.save(tmp_path / "world")
    loaded = World.load(tmp_path / "world")
    same(loaded, world)
    rows, targets = world.tasks.arrays[-1], world.intervention_targets[-1]
    assert (loaded.log_prob(rows, targets, task=0) == world.log_prob(rows, targets, task=0)).all()
    same(loaded.sample_tasks(2, 3, seed=5), world.sample_tasks(2, 3, seed=5))
    loaded.save(tmp_path / "again")
    for name in FILES[:3]:
        pd.testing.assert_frame_equal(
            pd.read_csv(tmp_path / "world" / name), pd.read_csv(tmp_path / "again" / name)
        )


def test_a_loaded_world_of_cells_is_the_saved_one(tmp_path):
    options = {"off_targets": {"X1": ["X2"], "X2": "X1"}, "strength": (1, 2), "num_cell_types": 2}
    world = sergio(**SMALL, **options, technical="drop_seq", snapshots="trajectory")
    new = world.sample_tasks(3, 4, seed=1)
    for one, name in ((world, "first"), (new, "new")):
        one.save(tmp_path / name)
        loaded = World.load(tmp_path / name)
        same(loaded, one)
        same(loaded.sample_tasks(4, 3, seed=2), world.sample_tasks(4, 3, seed=2))


def test_tables_have_names_that_a_reader_expects(folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    tasks = pd.read_csv(folder / "tasks.csv")
    assert list(tasks.columns) == ["task", "X1", "X2", "X3", "X4"]
    assert tasks["task"].value_counts().to_dict() == {"task1": 5, "task2": 2, "task3": 7}
    graph = pd.read_csv(folder / "adjacency.csv", index_col="parent")
    assert list(graph.index) == list(graph.columns) == ["X1", "X2", "X3", "X4"]
    targets = pd.read_csv(folder / "intervention_targets.csv", index_col="task")
    assert list(targets.index) == ["task1", "task2", "task3"]
    call = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    assert (call["simulator"], call["arguments"]["seed"]) == ("gp_anm", 3)
    assert call["arguments"]["length_scale"] == 1


def test_the_callers_arrays_cannot_change_what_is_recorded(tmp_path):
    graph = CHAIN.copy()
    world = gp_anm(**SMALL, graph=graph)
    graph[0, 1] = 0
    world.save(tmp_path / "world")
    same(World.load(tmp_path / "world"), world)


def test_an_older_world_is_replaced_and_other_files_are_not(folder, tmp_path):
    newer = gp_anm(**SMALL | {"seed": 4})
    newer.save(folder)
    same(World.load(folder), newer)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").touch()
    (tmp_path / "file").touch()
    for name in ("thesis", "file"):
        with pytest.raises(DataError, match=f"{name}': expected an empty folder or a saved world"):
            newer.save(tmp_path / name)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


@pytest.mark.parametrize("change", ["a file beside it", "another world.json", "a folder so called"])
def test_a_world_is_replaced_only_if_nothing_else_is_lost(folder, change):
    if change == "a file beside it":
        (folder / "notes").mkdir()
    else:
        (folder / "world.json").unlink()
        if change == "another world.json":
            (folder / "world.json").write_text('{"somebody": "else"}')
        else:
            (folder / "world.json").mkdir()
    before = sorted(folder.iterdir())
    with pytest.raises(DataError, match="saved world to replace, got something else"):
        gp_anm(**SMALL).save(folder)
    assert sorted(folder.iterdir()) == before


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="got 'the current folder, which cannot be replaced'"):
        gp_anm(**SMALL).save(".")
    assert tmp_path.exists()


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    gp_anm(**SMALL).save(tmp_path / "link")
    gp_anm(**SMALL).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    same(World.load(tmp_path / "target"), gp_anm(**SMALL))


@pytest.mark.parametrize("path", ["a\0b", "a" * 5000], ids=["null", "long"])
def test_a_path_that_no_folder_can_have_is_refused(path):
    for use in (gp_anm(**SMALL).save, World.load):
        with pytest.raises(DataError, match="folder: expected a path, got 'a"):
            use(path)


def test_a_failed_write_leaves_the_older_world(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(DataError, match=r"world': .* got 'No space left on device'"):
        gp_anm(**SMALL | {"seed": 4}).save(folder)
    same(World.load(folder), gp_anm(**SMALL))
    assert [path.name for path in folder.parent.iterdir()] == ["world"]


def damage(folder, name, change):
    path = folder / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}'"):
        World.load(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tasks.csv", lambda text: "", "empty"),
        ("tasks.csv", lambda text: text.replace("task1", "").replace("task2", ""), "label"),
        ("tasks.csv", lambda text: text[: text.rindex(",")] + "\n", "X4"),
        ("tasks.csv", lambda text: text.replace("task,", "condition,"), "'task'"),
        ("tasks.csv", lambda text: text.replace("task1,", "task1,x"), "number"),
        ("adjacency.csv", lambda text: "", "damage"),
        ("adjacency.csv", lambda text: text[: len(text) // 2], "expected"),
        ("adjacency.csv", lambda text: text.replace("parent,X1", "parent,X9"), "'parent'"),
        ("adjacency.csv", lambda text: text.replace(",0", ",2"), "entries 0 or 1"),
        ("adjacency.csv", lambda text: text.replace(",0", ",1"), "cycle"),
        ("intervention_targets.csv", lambda text: text.replace("task2", "task9"), "each task"),
        ("intervention_targets.csv", lambda text: text.replace(",1", ",yes"), "entries 0 or 1"),
        ("world.json", lambda text: text[: len(text) // 2], "damage"),
        ("world.json", lambda text: "[]", "damage"),
        ("world.json", lambda text: "[" * 100_000, "damage"),
        ("world.json", lambda text: "{}", "damage .*simulator"),
    ],
)
def test_a_damaged_file_is_named(folder, name, change, message):
    damage(folder, name, change)
    with pytest.raises(DataError, match=f"(?s){name}'.*{message}"):
        World.load(folder)


def test_no_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        World.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tasks.csv", lambda text: text[: text.rindex("task3")], "the tables were changed"),
        ("tasks.csv", lambda text: text[:-15] + "\n", "the tables were changed"),
        ("world.json", lambda text: text.replace('"seed": 3', '"seed": 4'), "were changed"),
        ("world.json", lambda text: text.replace('"hard"', '"soft"'), "got 'soft'"),
        ("world.json", lambda text: text.replace('"noise_scale"', '"loudness"'), "loudness"),
        (
            "world.json",
            lambda text: text.replace("gp_anm", "os_system"),
            "no simulator 'os_system'",
        ),
        ("world.json", lambda text: text.replace("gp_anm", "erdos_renyi"), "no simulator"),
    ],
)
def test_tables_without_their_call_are_loaded_with_a_warning(folder, name, change, message):
    damage(folder, name, change)
    with pytest.warns(MetaCaDIWarning, match=message) as caught:
        world = World.load(folder)
    assert caught[0].filename == __file__
    assert (world.adjacency == gp_anm(**SMALL).adjacency).all()
    assert (world.intervention_targets == gp_anm(**SMALL).intervention_targets).all()
    with pytest.raises(ConfigError, match="sample_tasks: expected a world with its system"):
        world.sample_tasks(1, 1, seed=0)
    with pytest.raises(ConfigError, match="log_prob: expected a world with a density"):
        world.log_prob(world.tasks.arrays[0], [0, 0, 0, 0])


def test_a_world_put_together_by_hand_is_saved_as_tables(tmp_path):
    world = replace(gp_anm(**SMALL), origin=None)
    world.save(tmp_path / "world")
    with pytest.warns(MetaCaDIWarning, match="put together by hand"):
        loaded = World.load(tmp_path / "world")
    same(loaded, world)
    assert loaded.origin is None
    assert world.sample_tasks(1, 2, seed=0).origin is None
