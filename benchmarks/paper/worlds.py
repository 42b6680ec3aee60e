"""What is to be found out, and the rows that methods see of it.

Twenty variables; 20 training tasks of 110 rows and 20 new tasks of ten (Section 5.1), one target
each, unless a world says otherwise. Data are those of `benchmarks.accuracy` for the same seed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int

from pyro_metacadi import TaskDataset, simulators
from pyro_metacadi.simulators import World
from pyro_metacadi.typing import Array

__all__ = ["KINDS", "Kind", "Problem", "draw_problem"]

NUM_ROWS, NUM_FEW_ROWS = 110, 10
SEED_OF_CONTROLS = 2_000_000  # beyond any world's, whose new tasks have its own
LARGE, SMALL = 200, 10


@dataclass(frozen=True)
class Kind:
    """A kind of world.

    Attributes:
        title: Over its table.
        draw: The world of a number of variables (as many tasks) and a seed.
        in_sample: Whether the targets asked for are those of the training tasks; otherwise there
            are as many new tasks.
        density: Whether the world's law is known, and with it the best that there can be.
        num_controls: The first so many training tasks are known to hit nothing.
        imbalanced: Whether the first half of the tasks have many rows and the others few.
    """

    title: str
    draw: Callable[[int, int], World]
    in_sample: bool = False
    density: bool = True
    num_controls: int = 0
    imbalanced: bool = False


@dataclass(frozen=True, eq=False)
class Problem:
    """Tasks with hidden targets.

    Attributes:
        kind: Of the world.
        seed: Of the world, of its new tasks and of the rows seen of them.
        world: The truth. Methods that compete do not look at it.
        training: Training tasks; which are controls, is declared.
        new: New tasks, few rows of each; empty where the training tasks' own targets are asked for.
        intervention_targets: True targets of `judged`.
        groups: Tasks of `judged` that are scored for themselves, too, by a name.
    """

    kind: Kind
    seed: int
    world: World
    training: TaskDataset
    new: TaskDataset | None
    intervention_targets: Int[Array, "task variable"]
    groups: Mapping[str, Int[Array, " some"]] = field(default_factory=dict)

    @property
    def judged(self) -> TaskDataset:
        """The tasks whose targets are asked for; controls are not among them."""
        if self.new is not None:
            return self.new
        return self.training[self.kind.num_controls :]

    @property
    def together(self) -> TaskDataset:
        """All tasks, for methods that see all at once."""
        return self.training if self.new is None else self.training.concatenate(self.new)

    @property
    def all_targets(self) -> Int[Array, "task variable"]:
        """True targets of `together`."""
        own = self.world.intervention_targets
        return own if self.new is None else np.vstack([own, self.intervention_targets])


def draw_problem(name: str, seed: int, *, smoke: bool = False) -> Problem:
    """Draw a world of the kind `name`, and its new tasks; five variables for a `smoke` test.

    Raises:
        KeyError: There is no such kind.
    """
    kind, size = KINDS[name], 5 if smoke else 20
    world = kind.draw(size, seed)
    training = world.tasks
    if kind.num_controls:
        training = training.declare_observational(list(training.tasks[: kind.num_controls]))
    if kind.in_sample:
        targets = world.intervention_targets[kind.num_controls :]
        half = np.array_split(np.arange(len(targets)), 2)
        groups = dict(zip(("large", "small"), half, strict=True)) if kind.imbalanced else {}
        return Problem(kind, seed, world, training, None, targets, groups)
    drawn = world.sample_tasks(size, NUM_ROWS, seed=seed)
    new = drawn.tasks.take_rows(NUM_FEW_ROWS, seed=seed)
    return Problem(kind, seed, world, training, new, drawn.intervention_targets)


def _even(draw: Callable[..., World], num_variables: int, seed: int, **options: Any) -> World:
    sizes = {"num_variables": num_variables, "num_tasks": num_variables, "num_samples": NUM_ROWS}
    return draw(**{**sizes, **options}, seed=seed)


def _bacadi(num_variables: int, seed: int) -> World:
    """Tasks after the control in any order, or their positions would give their targets away."""
    world = simulators.nn_anm(num_variables=num_variables, seed=seed)
    order = [0, *(1 + np.random.default_rng(seed).permutation(num_variables)).tolist()]
    targets = world.intervention_targets[order]
    return replace(world, tasks=world.tasks[order], intervention_targets=targets, origin=None)


def _with_control(num_variables: int, seed: int) -> World:
    """The world `gp` of the same seed, and before its tasks one that hits nothing."""
    world = _even(simulators.gp_anm, num_variables, seed)
    one = world.sample_tasks(1, NUM_ROWS, seed=seed + SEED_OF_CONTROLS, targets_per_task=0)
    tasks = TaskDataset.from_arrays(
        one.tasks.arrays, variables=world.tasks.variables, tasks=["control"]
    ).concatenate(world.tasks)
    targets = np.vstack([one.intervention_targets, world.intervention_targets])
    return replace(world, tasks=tasks, intervention_targets=targets, origin=None)


def _imbalanced(num_variables: int, seed: int) -> World:
    half = num_variables // 2
    rows = [LARGE] * (num_variables - half) + [SMALL] * half
    return _even(simulators.gp_anm, num_variables, seed, num_samples=rows)


KINDS = {
    "gp": Kind("GP-ANM, hard N(0, 1)", partial(_even, simulators.gp_anm)),
    "gp-control": Kind(
        "GP-ANM, as gp, and one more task of 110 rows that is known to be a control",
        _with_control,
        num_controls=1,
    ),
    "sergio": Kind(
        "SERGIO, knock-outs, independent cells without technical noise",
        partial(_even, simulators.sergio),
        density=False,
    ),
    "nn": Kind("NN-ANM, BaCaDI's networks and interventions", partial(_even, simulators.nn_anm)),
    "nn-bacadi": Kind(
        "NN-ANM, BaCaDI's protocol: 100 observational rows and 10 with each variable hit, whose "
        "own targets are asked for",
        _bacadi,
        in_sample=True,
        num_controls=1,
    ),
    "gp-imbalanced": Kind(
        f"GP-ANM, 10 tasks of {LARGE} rows and 10 of {SMALL}, whose own targets are asked for",
        _imbalanced,
        in_sample=True,
        imbalanced=True,
    ),
}
