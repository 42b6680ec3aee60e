"""The protein-signalling data of Sachs et al. (2005), with a consensus graph and targets."""

import csv
import importlib.resources
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from pyro_metacadi.data.names import did_you_mean
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError, DataError
from pyro_metacadi.typing import Array

__all__ = ["SachsData", "load_sachs"]

_REAGENT_TARGETS: dict[str, tuple[str, ...]] = {
    "cd3cd28": (),
    "cd3cd28_icam2": (),
    "akt_inhibitor": ("Akt",),
    "g06976": ("PKC",),
    "psitectorigenin": ("PIP2",),
    "u0126": ("Mek",),
    "ly294002": ("PIP3",),
    "pma": ("PKC",),
    "b2camp": ("PKA",),
}
_ACTIVITY_TARGETS: dict[str, tuple[str, ...]] = {
    **_REAGENT_TARGETS,
    "g06976": ("Raf", "Mek", "p38", "JNK"),
    "u0126": ("Erk",),
    "ly294002": ("PIP2", "PIP3"),
    "b2camp": ("Raf", "Mek", "Erk", "Akt", "p38", "JNK"),
}


@dataclass(frozen=True, eq=False)
class SachsData:
    """Flow cytometry of 11 proteins in human T cells under nine conditions; see `load_sachs`.

    Attributes:
        tasks: One task for each condition, raw fluorescence intensities.
        adjacency: Consensus graph of shape [parent, child], in the order of ``tasks.variables``;
            ``adjacency[i, j] = 1`` means X_i -> X_j (row = cause).
        targets: Condition -> proteins its reagent binds.
        activity_targets: Condition -> proteins whose measured level the reagent changes directly.
    """

    tasks: TaskDataset
    adjacency: Int[np.ndarray, "parent child"]
    targets: dict[str, tuple[str, ...]]
    activity_targets: dict[str, tuple[str, ...]]

    def intervention_targets(
        self, tasks: TaskDataset | None = None, *, convention: str = "reagent"
    ) -> Int[np.ndarray, "task variable"]:
        """Return a 0/1 matrix of shape [task, variable]: 1 where the task's condition hits.

        Args:
            tasks: Conditions or pieces of them (``"u0126/3"`` is hit as ``"u0126"`` is), over all
                proteins or some; by default ``self.tasks``. Columns are its variables.
            convention: ``"reagent"`` for `targets` or ``"activity"`` for `activity_targets`.

        Raises:
            ConfigError: Another convention.
            DataError: No dataset, or a task whose name is not a condition.
        """
        conventions = {"reagent": self.targets, "activity": self.activity_targets}
        if not isinstance(convention, str) or convention not in conventions:
            raise ConfigError(
                f"convention: expected 'reagent' or 'activity', got {convention!r}. "
                f"Use 'reagent' for the proteins that the reagents bind."
            )
        tasks = self.tasks if tasks is None else tasks
        if not isinstance(tasks, TaskDataset):
            raise DataError(
                f"tasks: expected a TaskDataset, got {type(tasks).__name__}. To choose conditions "
                "by name, pass sachs.tasks[['u0126', 'pma']]."
            )
        hits = [_proteins_hit(task, conventions[convention]) for task in tasks.tasks]
        return np.array([[int(name in hit) for name in tasks.variables] for hit in hits])


def _proteins_hit(task: str, targets: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    condition = task.split("/")[0]
    if condition not in targets:
        raise DataError(
            f"condition: expected one of the {len(targets)} conditions, got {condition!r} at task "
            f"{task!r}. {did_you_mean(condition, list(targets))}"
        )
    return targets[condition]


def load_sachs() -> SachsData:
    """Load the bundled data of Sachs et al.: 7,466 cells, 11 proteins, 9 conditions.

    Nine of the study's 14 conditions, as extracted from the `cdt` package (MIT licence, Kalainathan
    and Goudet). ``pma`` and ``b2camp`` lack the CD3/CD28 stimulation of the others, so they differ
    from them in more than their target. Inhibitors act on a protein's activity, which shows in the
    proteins it acts on, rather than on its measured level; hence two conventions for targets:
    reagents after the files of the UT-IGSP authors, activity after JCI (Mooij et al., 2020). The
    graph is the one in `cdt`, which has a cycle, with PIP2 -> PIP3 turned into PIP3 -> PIP2: the
    18-edge DAG of the UT-IGSP authors.

    Source:
        Sachs, Perez, Pe'er, Lauffenburger and Nolan (2005). Causal protein-signaling networks
        derived from multiparameter single-cell data. Science 308:523-529.
        doi:10.1126/science.1105809
    """
    folder: Any = importlib.resources.files("pyro_metacadi.data")
    with importlib.resources.as_file(folder / "sachs.csv.gz") as path:
        tasks = TaskDataset.from_csv(path, task="condition")
    edges = csv.DictReader((folder / "sachs_graph.csv").read_text("utf-8").splitlines())
    pairs = [(edge["parent"], edge["child"]) for edge in edges]
    return SachsData(
        tasks, _adjacency(pairs, tasks.variables), dict(_REAGENT_TARGETS), dict(_ACTIVITY_TARGETS)
    )


def _adjacency(pairs: list[tuple[str, str]], variables: tuple[str, ...]) -> Array:
    adjacency = np.zeros((len(variables), len(variables)), dtype=np.int64)
    for parent, child in pairs:
        adjacency[variables.index(parent), variables.index(child)] = 1
    return adjacency
