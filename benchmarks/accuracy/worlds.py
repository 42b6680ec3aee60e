"""The worlds that judge, and the goal of each.

Twenty variables, 20 training tasks of 110 rows, 20 new tasks of which few rows are seen, one target
each, unless a world says otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from benchmarks.naive import DOWN, FEWER_LOST, ORIGINAL, SIZES
from pyro_metacadi import TaskDataset, simulators
from pyro_metacadi.simulators import World

__all__ = ["KINDS", "Kind", "Problem", "draw_problem"]

NUM_NEW_TASKS = 20


@dataclass(frozen=True)
class Kind:
    """A kind of world.

    Attributes:
        title: Over its table.
        draw: The world of a seed.
        goals: Column of the table -> what the default should reach.
        num_targets: Of every new task.
        counts: Whether rows are counts, which scores without a model see log-normalised.
        ceiling: How the best that can be told of targets is known: ``"exact"``, the posterior;
            ``"simulated"``, a bound learned from simulations; or None.
        has_control: Whether the first task is known to be observational, and is what scores without
            a model compare with; otherwise they compare with all training tasks.
    """

    title: str
    draw: Callable[[int], World]
    goals: Mapping[str, str] = field(default_factory=dict)
    num_targets: int = 1
    counts: bool = False
    ceiling: str | None = "exact"
    has_control: bool = False


@dataclass(frozen=True, eq=False)
class Problem:
    """A world whose training tasks are seen, and new tasks whose targets are asked for.

    The new tasks are as large as the training tasks, so that the few rows seen of them are cells of
    random types, and snapshots of a run as long as theirs.

    Attributes:
        kind: Of the world.
        seed: Of the world, of its new tasks and of the rows seen.
        world: Training tasks and truth.
        new: New tasks, all rows, and their targets.
    """

    kind: Kind
    seed: int
    world: World
    new: World

    def few_rows(self, num_rows: int) -> TaskDataset:
        """What is seen of the new tasks: so many random rows of each."""
        return self.new.tasks.take_rows(num_rows, seed=self.seed)

    @property
    def reference(self) -> TaskDataset:
        """What scores without a model compare new tasks with."""
        return self.world.tasks[:1] if self.kind.has_control else self.world.tasks


@lru_cache(maxsize=1)  # methods are run side by side on each problem
def draw_problem(name: str, seed: int) -> Problem:
    """Draw a world of the kind `name`, and its new tasks.

    Raises:
        KeyError: There is no such kind.
    """
    kind = KINDS[name]
    world = kind.draw(seed)
    new = world.sample_tasks(
        NUM_NEW_TASKS, SIZES["num_samples"], seed=seed, targets_per_task=kind.num_targets
    )
    return Problem(kind, seed, world, new)


def _gp(seed: int, **options: Any) -> World:
    return simulators.gp_anm(**{**SIZES, **options}, seed=seed)


def _nn(seed: int) -> World:
    return simulators.nn_anm(seed=seed)


def _genes(title: str, *, goals: Mapping[str, str], **options: Any) -> Kind:
    draw = partial(simulators.sergio, **SIZES, **options)
    counts = "technical" in options
    return Kind(
        f"SERGIO {title}",
        lambda seed: draw(seed=seed),
        {**_EVERYWHERE, **goals},
        counts=counts,
        ceiling="simulated",
    )


_EVERYWHERE = {"fit_seconds": "<= 60", "adapt_seconds": "<= .05"}
_GP = {
    **_EVERYWHERE,
    "edge_ap": ">= .97",
    "e_shd": "<= 3",
    "e_sid": "<= 20",
    "edge_ece": "<= .05",
    "intv_ece": "<= .05",
}
_BELOW_EMPTY = {"e_shd": "< empty"}
_MOST_LOST: Mapping[str, Any] = {**ORIGINAL, "technical": "10x_chromium"}
_LESS_LOST: Mapping[str, Any] = {**ORIGINAL, "technical": FEWER_LOST}

KINDS = {
    "gp": Kind("GP-ANM, hard N(0, 1)", _gp, {**_GP, "intv_ap": ">= .87", "intv_ap_3": ">= .69"}),
    "gp_shifted": Kind(
        "GP-ANM, hard N(2, 1)", partial(_gp, intervention_mean=2), {**_GP, "intv_ap": ">= .98"}
    ),
    "gp_mechanism": Kind(
        "GP-ANM, a hit draws a new mechanism of the same parents (the issue has no goal)",
        partial(_gp, intervention="mechanism"),
        _EVERYWHERE,
        ceiling=None,
    ),
    "gp_50": Kind(
        "GP-ANM, hard N(0, 1), 50 variables and 50 training tasks",
        partial(_gp, num_variables=50, num_tasks=50),
        {"fit_seconds": "<= 300", "edge_ap": ">= .97", "e_shd": "<= 3"},
    ),
    "nn": Kind(
        "NN-ANM, BaCaDI's protocol: 100 observational rows, 10 with each variable hit",
        _nn,
        {**_EVERYWHERE, "intv_ap": ">= .99", "e_shd": "<= 14", "e_sid": "<= 100"},
        has_control=True,
    ),
    "sergio_ko": _genes(
        "knock-out, independent cells",
        goals={"intv_ap": ">= .99", "edge_ap": ">= .80", "e_shd": "<= 18", "e_sid": "<= 90"},
    ),
    "sergio_kd": _genes(
        "knock-down x 0.5, independent cells",
        goals={
            "intv_ap": ">= .87",
            "intv_ap_3": ">= .50",
            "edge_ap": ">= .60",
            "e_shd": "<= .7 empty",
        },
        **DOWN,
    ),
    "sergio_kd_trajectory": _genes(
        "knock-down x 0.5, snapshots of one run", goals={"intv_ap": ">= .95"}, **DOWN, **ORIGINAL
    ),
    "sergio_ko_10x": _genes(
        "knock-out, one run, 10x counts, 45 % lost",
        goals={"intv_ap": ">= .88", **_BELOW_EMPTY},
        **_LESS_LOST,
    ),
    "sergio_kd_10x": _genes(
        "knock-down x 0.5, one run, 10x counts, 45 % lost",
        goals={"intv_ap": ">= .55"},
        **DOWN,
        **_LESS_LOST,
    ),
    "sergio_ko_10x_74": _genes(
        "knock-out, one run, 10x counts, 74 % lost (the issue has no goal)", goals={}, **_MOST_LOST
    ),
    "sergio_kd_10x_74": _genes(
        "knock-down x 0.5, one run, 10x counts, 74 % lost (the issue has no goal)",
        goals={},
        **DOWN,
        **_MOST_LOST,
    ),
    "observational": Kind(
        "GP-ANM, nobody was ever hit",
        partial(_gp, targets_per_task=0),
        {**_EVERYWHERE, "mean_target": "<= 2 prior"},
        num_targets=0,
    ),
}
