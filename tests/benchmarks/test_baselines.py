"""Baselines solve what they are made for, and look at no truth but GIES, which is told."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import baselines
from benchmarks.baselines import bacadi, dcdi_g, jci_pc
from pyro_metacadi import TaskDataset, metrics
from pyro_metacadi.errors import ConfigError, DataError

PACKAGES = {
    "jci_pc": ("causallearn", "baselines"),
    "jci_pc_kernel": ("causallearn", "baselines"),
    "gies": ("gies", "baselines"),
    "utigsp": ("graphical_model_learning", "utigsp"),
}


def among(names):
    """Parameters of a test; those whose package lacks are skipped, and say so."""
    return [pytest.param(name, marks=_skipped(name)) for name in names]


def _skipped(name):
    package, extra = PACKAGES.get(name, ("numpy", ""))
    reason = f"{name} needs pip install -e '.[{extra}]'"
    return pytest.mark.skipif(find_spec(package) is None, reason=reason)


BOOTSTRAPPED = ("jci_pc", "utigsp", "gies", "linear_gaussian", "dcdi_g")
SOLVERS = (*BOOTSTRAPPED, "bacadi")
# Gradient steps end in a local optimum of nearer pairs, often with the edge turned.
PAIRS = {"dcdi_g": {"value": 6.0, "sizes": (800, 40, 40)}}
WITHOUT_MODEL = ("mean_shift", "variance_ratio")
BLIND = tuple(name for name, method in baselines.METHODS.items() if not method.told)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """What holds at any number of steps is tested at few; small worlds may hurry."""
    train(monkeypatch, num_rounds=3, steps=5, num_steps=30)


@pytest.fixture
def enough_steps(few_steps, monkeypatch):
    """To solve an easy world."""
    train(monkeypatch, num_rounds=20, steps=100, num_steps=400)


def train(monkeypatch, *, num_rounds, steps, num_steps):
    """Fewer gradient steps than by default, which are many for worlds of a few variables."""
    monkeypatch.setattr(dcdi_g, "NUM_ROUNDS", num_rounds)
    monkeypatch.setattr(dcdi_g, "STEPS_PER_ROUND", steps)
    monkeypatch.setattr(dcdi_g, "FINAL_STEPS", steps)
    monkeypatch.setattr(bacadi, "NUM_STEPS", num_steps)
    monkeypatch.setattr(bacadi, "LEARNING_RATE", 0.03)


def world(weights, *, sizes, seed=0, value=3.0, scale=1.0):
    """Lines with Gaussian noise: a control, then each variable set to N(value, scale) in turn."""
    rng = np.random.default_rng(seed)
    d = len(weights)
    targets = np.vstack([np.zeros((1, d), dtype=int), np.eye(d, dtype=int)])
    arrays = []
    for rows, hit in zip(sizes, targets, strict=True):
        x = np.zeros((rows, d))
        for j in range(d):  # variables are in a causal order
            free = x @ weights[:, j] + rng.normal(size=rows)
            x[:, j] = value + scale * rng.normal(size=rows) if hit[j] else free
        arrays.append(x)
    tasks = TaskDataset.from_arrays(arrays).declare_observational(["task1"])
    return tasks, (weights != 0).astype(int), targets


def collider(**options):
    """X1 -> X3 <- X2, X3 -> X4."""
    weights = np.zeros((4, 4))
    weights[0, 2], weights[1, 2], weights[2, 3] = 1.0, -1.0, 1.0
    return world(weights, **{"sizes": (200, 40, 40, 40, 40), **options})


def pair(**options):
    """X1 -> X2."""
    return world(np.array([[0, 1.0], [0, 0]]), **{"sizes": (200, 40, 40), **options})


def permuted(tasks, adjacency, targets):
    """The same with variables backwards, against the causal order, and tasks mixed."""
    columns, order = np.arange(len(adjacency))[::-1], np.roll(np.arange(len(targets))[::-1], 2)
    mixed = TaskDataset.from_arrays(
        [tasks.arrays[at][:, columns] for at in order],
        variables=[tasks.variables[at] for at in columns],
        tasks=[tasks.tasks[at] for at in order],
    ).declare_observational(["task1"])
    return mixed, adjacency[np.ix_(columns, columns)], targets[np.ix_(order, columns)]


def told(tasks, targets):
    return tasks.with_known_targets(targets)


def failing(name, reason):
    """A method that a test shows to fail."""
    marks = (_skipped(name), pytest.mark.xfail(strict=True, reason=reason))
    return pytest.param(name, marks=marks)


@pytest.mark.usefixtures("enough_steps")
@pytest.mark.parametrize(
    "name",
    [
        *among(SOLVERS),
        failing("bacadi_uniform", "most particles stay at other graphs; weights find those that do"
                " not"),
    ],
)  # fmt: skip
def test_an_easy_world_is_solved(name):
    tasks, adjacency, targets = permuted(*collider())  # no help to who breaks ties by position
    found = baselines.fit(name, told(tasks, targets), seed=0)
    scores = metrics.evaluate(found, adjacency=adjacency, intervention_targets=targets)
    assert scores["edge_ap"] > 0.9
    assert scores["e_shd"] < 1
    assert scores["intv_ap"] > 0.95


@pytest.mark.usefixtures("enough_steps")
@pytest.mark.parametrize(
    "name",
    [
        *among(name for name in SOLVERS if name not in ("gies", "utigsp")),
        failing("utigsp", "it compares with controls; all rows together are a poor one of 5 tasks"),
    ],
)
def test_most_is_found_where_no_task_is_known_to_be_a_control(name):
    tasks, adjacency, targets = permuted(*collider(sizes=(200,) * 5))
    found = baselines.fit(name, tasks.with_known_targets(None), seed=0)
    scores = metrics.evaluate(found, adjacency=adjacency, intervention_targets=targets)
    assert scores["e_shd"] < 1.5
    assert scores["intv_ap"] > 0.35  # chance is .2


@pytest.mark.parametrize(
    ("name", "value", "scale"), [("mean_shift", 9, 1), ("variance_ratio", 0, 9)]
)
def test_who_is_changed_most_is_suspected_most(name, value, scale):
    tasks, adjacency, targets = collider(value=value, scale=scale)
    found = baselines.fit(name, tasks, seed=0)
    scores = metrics.evaluate(found, adjacency=adjacency, intervention_targets=targets)
    assert scores["intv_top1"] == 1
    assert scores["e_shd"] == scores["empty_shd"] == 3


@pytest.mark.usefixtures("enough_steps")
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", among((*SOLVERS, "bacadi_uniform")))
def test_a_pair_is_oriented(name, backwards):
    problem = pair(**PAIRS.get(name, {}))
    tasks, _, targets = permuted(*problem) if backwards else problem
    found = baselines.fit(name, told(tasks, targets), seed=0)
    doubt = 0.25 if name == "bacadi_uniform" else 0.1  # two or three of its particles are wrong
    assert found.edge_probs.sel(parent="X1", child="X2") > 1 - doubt
    assert found.edge_probs.sel(parent="X2", child="X1") < doubt
    hit = targets.any(1)
    assert (found.target_probs.values.argmax(1) == targets.argmax(1))[hit].all()


@pytest.mark.parametrize("name", among(["jci_pc_kernel"]))
def test_kernels_see_what_is_no_line(name):
    rng = np.random.default_rng(1)
    cause = np.concatenate([rng.normal(size=60), rng.normal(size=30), rng.normal(2, 1, size=30)])
    effect = cause**2 + 0.3 * rng.normal(size=120)
    effect[60:90] = rng.normal(-3, 1, size=30)
    rows = np.stack([cause, effect], axis=1)
    tasks = TaskDataset.from_arrays(np.split(rows, [60, 90])).declare_observational(["task1"])
    kernels, lines = (baselines.fit(test, tasks, seed=0) for test in (name, "jci_pc"))
    edge = {"parent": "X1", "child": "X2"}
    assert kernels.edge_probs.sel(edge) > 0.9 > lines.edge_probs.sel(edge)
    assert kernels.target_probs.sel(task="task2", variable="X2") > 0.9
    assert kernels.target_probs.sel(task="task3", variable="X1") > 0.9


@pytest.mark.parametrize("name", among(BLIND))
def test_true_targets_leak_into_nothing(name):
    """Not even past `blind`, which hides them: that is tested by itself."""
    tasks, _, targets = collider(sizes=(20, 10, 10, 10, 10))  # two variables would show no leak
    shuffled = targets.copy()
    shuffled[1:] = targets[:0:-1]
    partly = np.where(targets == 1, 1, -1)
    partly[0] = 0
    method = baselines.METHODS[name]
    module = import_module(f"benchmarks.baselines.{method.module}")
    first, *others = (
        module.fit(known, seed=3, **method.options)
        for known in (tasks, told(tasks, targets), told(tasks, shuffled), told(tasks, partly))
    )
    for other in others:
        assert (other.graphs == first.graphs).all()
        assert other.target_probs.identical(first.target_probs)


@pytest.mark.parametrize("told_targets", [False, True])
def test_a_method_is_shown_controls_and_no_hit_unless_it_is_told(told_targets, monkeypatch):
    spy = SimpleNamespace(fit=lambda tasks, *, seed: tasks.known_targets)
    monkeypatch.setitem(sys.modules, "benchmarks.baselines.spy", spy)
    monkeypatch.setitem(baselines.METHODS, "spy", baselines.Method("spy", told=told_targets))
    targets = np.array([[0, 0], [0, 1], [1, -1]])
    shown = targets if told_targets else [[0, 0], [-1, -1], [-1, -1]]
    assert (baselines.fit("spy", told(tiny(), targets), seed=0) == shown).all()
    assert baselines.fit("spy", tiny(), seed=0) is None


@pytest.mark.parametrize("name", among(["gies"]))
def test_gies_is_told(name):
    tasks, _, targets = pair()
    shuffled = targets[[0, 2, 1]]
    right, wrong = (
        baselines.fit(name, told(tasks, known), seed=0) for known in (targets, shuffled)
    )
    assert (right.target_probs == targets).all()
    assert (wrong.target_probs == shuffled).all()
    edge = {"parent": "X1", "child": "X2"}
    assert wrong.edge_probs.sel(edge) < right.edge_probs.sel(edge)


@pytest.mark.parametrize("name", among(baselines.METHODS))
def test_every_method_takes_few_rows_and_tasks_that_are_constant(name):
    tasks, _, targets = collider(sizes=(12, 3, 3, 1, 3), value=0, scale=0)
    tasks = told(tasks, targets if baselines.METHODS[name].told else None)
    first, again = (baselines.fit(name, tasks, seed=1) for _ in range(2))
    assert first.edge_probs.dims == ("parent", "child")
    assert list(first.target_probs["task"].values) == list(tasks.tasks)
    for probs in (first.edge_probs, first.target_probs):
        assert ((probs >= 0) & (probs <= 1)).all()
    assert (first.graphs == again.graphs).all()
    assert first.target_probs.identical(again.target_probs)
    draws = first.sample(1000)["adjacency"]
    assert metrics.expected_shd(draws, np.zeros((4, 4))) == pytest.approx(first.edge_probs.sum())


@pytest.mark.parametrize("name", among([one for one in baselines.METHODS if one != "utigsp"]))
def test_one_variable_has_no_edges(name):
    known = np.array([[0], [0], [1], [0]]) if baselines.METHODS[name].told else None
    tasks = told(tiny((5, 5, 5, 1), d=1), known)
    found = baselines.fit(name, tasks, seed=0)
    assert (found.edge_probs == 0).all()
    assert found.target_probs.shape == (4, 1)


def test_chance_knows_no_more_than_chance():
    tasks, adjacency, targets = collider()
    scores = [
        metrics.evaluate(
            baselines.fit("random", tasks, seed=seed),
            adjacency=adjacency,
            intervention_targets=targets,
        )
        for seed in range(40)
    ]
    for score in ("intv_auroc", "edge_auroc"):
        values = [one[score] for one in scores]
        assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / np.sqrt(40)
    empty = baselines.fit("empty", tasks, seed=0)
    assert not empty.graphs.any()
    assert (empty.target_probs == 1 / 4).all()


def test_without_a_control_a_task_is_compared_with_the_others():
    tasks, _, targets = collider(value=9)
    found = baselines.fit("mean_shift", tasks.with_known_targets(None), seed=0)
    assert (found.target_probs.values.argmax(1) == targets.argmax(1))[1:].all()


def tiny(rows=(4, 4, 4), d=2):
    rng = np.random.default_rng(0)
    return TaskDataset.from_arrays([rng.normal(size=(n, d)) for n in rows])


ALWAYS = np.array([[1, 0], [1, 0], [1, 1]])
HALF = np.array([[0, 0], [0, 1], [0, -1]])


@pytest.mark.parametrize(
    ("name", "tasks", "message"),
    [
        *(
            pytest.param(name, tiny((4, 4)), "three tasks, or a control and another", id=name)
            for name in ("jci_pc", "jci_pc_kernel")
        ),
        ("jci_pc", tiny().declare(exactly=[]), "three tasks, or a control.* with 3 controls"),
        ("jci_pc_kernel", tiny((200, 99, 2)), "at most 300 rows for the kernel test, got 301"),
        ("utigsp", tiny((4,)), "two tasks or more"),
        ("utigsp", tiny(d=1), "of two variables, .* got 3 tasks of 1 variables"),
        ("utigsp", tiny().declare(exactly=[]), "one of them no control"),
        ("gies", tiny(), "unknown ones in task 'task1'"),
        ("gies", told(tiny(), HALF), "unknown ones in task 'task3'"),
        ("gies", told(tiny(), ALWAYS), "leaves each variable alone, got none for 'X1'"),
        ("mean_shift", tiny((4,)), "expected at least one of 1, got none"),
    ],
)
def test_tasks_that_do_not_suit_a_method_are_refused(name, tasks, message):
    with pytest.raises(DataError, match=message):
        baselines.fit(name, tasks, seed=0)


@pytest.mark.parametrize("name", among(BOOTSTRAPPED))
def test_the_number_of_resamples_is_a_choice(name):
    tasks, _, targets = pair(sizes=(20, 10, 10))
    assert len(baselines.fit(name, told(tasks, targets), seed=0, num_draws=2).graphs) == 2
    with pytest.raises(ConfigError, match="num_draws"):
        baselines.fit(name, tasks, seed=0, num_draws=0)


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigError, match=r"method: expected one of jci_pc, .*, got 'pc'\."):
        baselines.fit("pc", tiny(), seed=0)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_the_command_that_brings_it(name, monkeypatch):
    package, extra = PACKAGES[name]
    for module in [one for one in sys.modules if one.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    known = told(tiny(), np.array([[0, 0], [0, 1], [1, 0]]))
    with pytest.raises(ModuleNotFoundError, match=rf"pip install -e '\.\[{extra}\]'"):
        baselines.fit(name, known, seed=0)


@pytest.mark.parametrize("name", among(["jci_pc"]))
def test_a_task_column_is_a_cause_only_and_no_two_are_joined(name):
    names = ["X0", "X1", "C0", "C1"]
    knowledge = jci_pc._knowledge(names, num_contexts=2)
    nodes = sorted(knowledge.tier_value_map, key=lambda node: names.index(node.get_name()))
    forbidden = np.array([[knowledge.is_forbidden(one, other) for other in nodes] for one in nodes])
    expected = np.zeros((4, 4), dtype=bool)
    expected[:, 2:] = True
    assert (forbidden == expected)[~np.eye(4, dtype=bool)].all()
