"""A tour on real data: which proteins did the reagents hit in human T cells?

Sachs et al. (2005) measured eleven signalling proteins in single cells under reagents that each
act on a known protein. The model is never told which: the demo compares what it says of cells
that it has not seen with what is known, and with the plainest score there is.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pyro_metacadi.typing import Array

if TYPE_CHECKING:
    from pyro_metacadi.data.sachs import SachsData
    from pyro_metacadi.data.tasks import TaskDataset

__all__ = ["run_demo"]

Rows: TypeAlias = list[tuple[str, ...]]

# The conditions under CD3/CD28 stimulation; without it (pma, b2camp) the whole cell differs.
CONDITIONS = (
    "cd3cd28",
    "cd3cd28_icam2",
    "akt_inhibitor",
    "g06976",
    "psitectorigenin",
    "u0126",
    "ly294002",
)
TRAINING_TASKS, TRAINING_ROWS = 3, 110  # per condition
NEW_TASKS, NEW_ROWS = 10, 10  # per condition, of cells that were not trained on


@dataclass(frozen=True)
class Findings:
    """Everything the report and the files are made of; `tasks` are the new ones."""

    sachs: "SachsData"
    tasks: "TaskDataset"
    posterior: Any
    mean_shift: Array
    num_training_tasks: int


def run_demo(
    out: str | os.PathLike[str],
    *,
    num_steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, float]:
    """Fit the Sachs data, adapt to unseen cells, print what was found and write it to `out`.

    Writes ``posterior.nc`` (the posterior adapted to the new tasks: their targets and the graph),
    ``edge_probs.csv``, ``target_probs.csv``, ``edges.png`` and ``targets.png``.

    Args:
        out: Folder for the files; made if need be.
        num_steps: Optimisation steps; the model's default if None.
        seed: Fixes the choice of cells and the fit.
        progress: Show a progress bar while fitting.

    Returns:
        The scores of `pyro_metacadi.metrics.evaluate` on the new tasks (known targets by reagent).

    Raises:
        ConfigError: `num_steps` or `seed` is out of range.
    """
    from pyro_metacadi import MetaCaDI, load_sachs, metrics
    from pyro_metacadi.data.naive import mean_shift

    sachs = load_sachs()
    training, new = _split(sachs.tasks, seed=seed)
    model = MetaCaDI().fit(training, num_steps=num_steps, seed=seed, progress=progress)
    findings = Findings(
        sachs=sachs,
        tasks=new,
        posterior=model.adapt(new, seed=seed),
        mean_shift=mean_shift(new, reference=training),
        num_training_tasks=len(training),
    )
    scores = metrics.evaluate(
        findings.posterior,
        adjacency=sachs.adjacency,
        intervention_targets=sachs.intervention_targets(new),
    )
    print(_report(findings, scores))
    _write(findings, Path(out))
    return scores


def _split(tasks: "TaskDataset", *, seed: int) -> tuple["TaskDataset", "TaskDataset"]:
    """Cut each condition into training tasks and, from the cells left over, new small tasks."""
    from pyro_metacadi import TaskDataset

    chosen = tasks[list(CONDITIONS)]
    logs = TaskDataset.from_arrays(
        [np.log(rows) for rows in chosen.arrays], variables=tasks.variables, tasks=CONDITIONS
    )
    pieces = logs.split_rows(TRAINING_ROWS, seed=seed)
    numbers = range(1, TRAINING_TASKS + 1)
    training = pieces[[f"{name}/{number}" for name in CONDITIONS for number in numbers]]
    unseen = pieces[[f"{name}/{TRAINING_TASKS + 1}" for name in CONDITIONS]].split_rows(NEW_ROWS)
    kept = [name for name in unseen.tasks if int(name.rsplit("/", 1)[1]) <= NEW_TASKS]
    return training, unseen[kept]


def _report(findings: Findings, scores: dict[str, float]) -> str:
    num_variables = len(findings.tasks.variables)
    chance = f"{(num_variables + 1) / 2:g}"
    return f"""
Eleven proteins in human T cells (Sachs et al. 2005), natural log of the values.
Trained on {findings.num_training_tasks} tasks of {TRAINING_ROWS} cells from {len(CONDITIONS)} \
conditions, without being told what any reagent does;
then shown {len(findings.tasks)} new tasks of {NEW_ROWS} other cells, {NEW_TASKS} per condition.

WHAT DID EACH REAGENT HIT?
probability: the model's probability that the known target was hit, averaged over the new tasks.
others:      the same of the other proteins (all of them where there is no target); lower is better.
rank:        place of the known target among the {num_variables} proteins, 1 = most suspicious.
mean shift:  its place if proteins are ranked by how far the ten cells' mean lies from the
             training cells' mean, in standard errors. Guessing gives rank {chance}.

{_table(_condition_rows(findings))}

WHO ACTS ON WHOM? The ten most probable edges, and whether the consensus graph has them.

{_table(_edge_rows(findings))}

OVERALL
targets found: average precision over all proteins of all new tasks with a known target
               (1 = every known target ranked first; guessing gives the chance column).
by reagent:    a condition's known target is the protein that its reagent binds.
by activity:   it is the proteins whose measured level the reagent changes directly (inhibitors
               of a protein's activity show in the proteins it acts on).
wrong edges:   expected number of edges missing, extra or reversed against the consensus graph.

{_table(_score_rows(findings, scores))}

In short: on these data the model finds targets {_verdict(findings, scores)}.
"""


def _verdict(findings: Findings, scores: dict[str, float]) -> str:
    """How the model compares with the two answers that need no model."""
    from pyro_metacadi.metrics import target_scores

    truth = findings.sachs.intervention_targets(findings.tasks)
    gain = scores["intv_ap"] - target_scores(findings.mean_shift, truth)["intv_ap"]
    targets = "better than" if gain > 0 else "worse than"
    if abs(gain) < 0.02:
        targets = "about as well as"
    edges = "fewer" if scores["e_shd"] < scores["empty_shd"] else "more"
    return f"{targets} the mean shift\ndoes, and its graphs have {edges} wrong edges than no graph"


def _condition_rows(findings: Findings) -> Rows:
    variables = findings.tasks.variables
    probs = _by_condition(findings.posterior.target_probs.values)
    ranks = _by_condition(_ranks(findings.posterior.target_probs.values))
    naive = _by_condition(_ranks(findings.mean_shift))
    rows: Rows = [("condition", "known target", "probability", "others", "rank", "mean shift")]
    for index, name in enumerate(CONDITIONS):
        targets = findings.sachs.targets[name]
        if not targets:
            rows.append((name, "none", "-", f"{probs[index].mean():.2f}", "-", "-"))
        for target in targets:
            column = variables.index(target)
            others = np.delete(probs[index], column).mean()
            figures = (probs[index, column], others, ranks[index, column], naive[index, column])
            formats = (".2f", ".2f", ".1f", ".1f")
            rows.append((name, target, *map(format, figures, formats)))
    return rows


def _edge_rows(findings: Findings) -> Rows:
    probs, known = findings.posterior.edge_probs, findings.sachs.adjacency
    names = findings.tasks.variables
    rows: Rows = [("cause", "effect", "probability", "consensus")]
    for flat in np.argsort(-probs.values, axis=None, kind="stable")[:10]:
        cause, effect = np.unravel_index(flat, probs.shape)
        verdict = "yes" if known[cause, effect] else "reversed" if known[effect, cause] else "no"
        rows.append((names[cause], names[effect], f"{probs.values[cause, effect]:.2f}", verdict))
    return rows


def _score_rows(findings: Findings, scores: dict[str, float]) -> Rows:
    from pyro_metacadi.metrics import target_scores

    rows: Rows = [("score", "model", "mean shift", "chance")]
    for convention in ("reagent", "activity"):
        truth = findings.sachs.intervention_targets(findings.tasks, convention=convention)
        model = target_scores(findings.posterior.target_probs.values, truth)
        naive = target_scores(findings.mean_shift, truth)
        figures = (model["intv_ap"], naive["intv_ap"], model["base_rate"])
        rows.append((f"targets found, by {convention}", *(f"{figure:.2f}" for figure in figures)))
    empty = f"{scores['empty_shd']:.0f} (no edges)"
    rows.append(("wrong edges", f"{scores['e_shd']:.1f}", "-", empty))
    return rows


def _write(findings: Findings, out: Path) -> None:
    import xarray as xr

    from pyro_metacadi import plots
    from pyro_metacadi._output import write_posterior

    out.mkdir(parents=True, exist_ok=True)
    posterior, sachs = findings.posterior, findings.sachs
    write_posterior(posterior, out / "posterior.nc")
    edges = posterior.edge_probs.to_series().rename("probability").sort_values(ascending=False)
    edges[edges.index.get_level_values(0) != edges.index.get_level_values(1)].to_csv(
        out / "edge_probs.csv"
    )
    columns = ["task", "variable", "probability", "rank"]
    posterior.rank_targets()[columns].to_csv(out / "target_probs.csv", index=False)
    ax = plots.edge_heatmap(posterior.edge_probs, truth=sachs.adjacency)
    plots.save_figure(ax, out / "edges.png")
    means = xr.DataArray(
        _by_condition(posterior.target_probs.values),
        dims=("task", "variable"),
        coords={"task": list(CONDITIONS), "variable": list(findings.tasks.variables)},
    )
    truth = sachs.intervention_targets(sachs.tasks[list(CONDITIONS)])
    ax = plots.target_heatmap(means, truth=truth)
    plots.save_figure(ax, out / "targets.png")


def _by_condition(values: Array) -> Array:
    """Average [task, variable] over each condition's new tasks, which lie together, in order."""
    return values.reshape(len(CONDITIONS), NEW_TASKS, -1).mean(axis=1)


def _ranks(scores: Array) -> Array:
    """Return the place of every variable within its task, 1 = highest score; ties share theirs."""
    from scipy.stats import rankdata

    return rankdata(-scores, axis=1)


def _table(rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
