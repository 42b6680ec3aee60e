"""Diagnostics as verdicts in plain words."""

from collections.abc import Callable

import numpy as np

from pyro_metacadi.diagnostics.explained import FEWEST_REPLICATES
from pyro_metacadi.diagnostics.finding import Finding, Status
from pyro_metacadi.diagnostics.overview import of_guide, of_tasks
from pyro_metacadi.inference.convergence import AGREEMENT, FEWEST_DRAWS, split_rhat
from pyro_metacadi.report.subject import Subject

__all__ = ["CHECKS", "SIGNS", "findings"]

SIGNS: dict[Status, str] = {"ok": "✓", "warn": "!", "bad": "✗", "unknown": "?"}
"""Of every status, so that no colour is needed."""

MOST_DRAWS, MOST_VALUES = 100, 2**24  # of rows replicated

SLIGHT, LARGE = 0.1, 0.3  # differences between chains' probabilities of an edge
SURE = 0.9
QUARTER, HALF = 0.25, 0.5
FEW = 2.0  # targets of an experiment, of however few variables


def findings(subject: Subject) -> list[Finding]:
    """What all `CHECKS` say that apply."""
    found = [check(subject) for check in CHECKS]
    return [one for one in found if one is not None]


def convergence(subject: Subject) -> Finding | None:
    """Whether training, or the chains, came to an end."""
    converged, loss = subject.model.converged, subject.history["loss"]
    if "held_out" in subject.history or len(subject.history) > 1:
        return None  # see `held_out`
    name = "Do the chains agree about the score of the graph?"
    if len(loss) < 2 or loss.shape[1] < FEWEST_DRAWS:
        text = "R-hat needs two chains of four draws. Fit with num_chains=4 (--chains 4)."
        return Finding(name, "unknown", text)
    rhat = split_rhat(loss) if np.ptp(loss) > 0 else 1.0
    said = f"R-hat of the log score over {len(loss)} chains is {_short(rhat)}"
    if converged:
        return Finding(name, "ok", f"{said}; below {AGREEMENT} they found the same.")
    return Finding(name, "bad", f"{said}; it should be below {AGREEMENT}. Draw more graphs.")


def held_out(subject: Subject) -> Finding | None:
    """Whether the loss of rows that were set aside stopped falling."""
    if len(subject.history) == 1:
        return None  # the evidence engine sets none aside
    name, series = "Did training end by itself?", subject.history.get("held_out")
    if subject.model.converged is None or series is None:
        return Finding(name, "unknown", "No rows were held out, so that nothing tells.")
    ends = [values[np.isfinite(values)][[0, -1]] for values in series]
    said = "; ".join(f"from {first:.3f} to {last:.3f}" for first, last in ends)
    said = f"The loss of held-out rows went {said}"
    if subject.model.converged:
        return Finding(name, "ok", f"{said} and stopped falling before the steps ran out.")
    return Finding(name, "bad", f"{said} and still fell at the last step. Train longer.")


def chains_on_edges(subject: Subject) -> Finding:
    """How much independent chains differ about single edges."""
    name, probs = "Do independent chains find the same edges?", subject.edges_by_chain
    if len(probs) < 2:
        text = "There is one chain, which nothing confirms. Fit with num_chains=4 (--chains 4)."
        return Finding(name, "unknown", text)
    spread = np.ptp(probs, axis=0)
    i, j = np.unravel_index(int(spread.argmax()), spread.shape)
    names, worst = subject.tasks.variables, float(spread[i, j])
    said = f"Their probabilities differ by {worst:.2f} at most, for {names[i]} → {names[j]}"
    if worst < SLIGHT:
        text = f"{said}." if worst > 0 else f"All {len(probs)} chains have the same edges."
        return Finding(name, "ok", text)
    number = int((spread >= SLIGHT).sum())
    said += f"; by {SLIGHT} or more for {number} edges"
    if worst < LARGE:
        return Finding(name, "warn", f"{said}. Take such edges as less sure than stated.")
    return Finding(
        name, "bad", f"{said}. Draw more graphs, or train longer, before believing them."
    )


def edges_decided(subject: Subject) -> Finding:
    """How many edges are wrong if one cuts at one half, by the posterior itself."""
    probs = subject.posterior.edge_probs.values
    drawn, wrong = int((probs >= HALF).sum()), float(np.minimum(probs, 1 - probs).sum())
    open_ones = int(((probs > 1 - SURE) & (probs < SURE)).sum())
    text = (
        f"{drawn} edges are at least as probable as {HALF}. Of that graph, the posterior itself "
        f"expects {wrong:.1f} edges to be wrong or missing; {open_ones} are between {1 - SURE:.1f} "
        f"and {SURE}."
    )
    return Finding("Is the graph decided?", "ok" if wrong <= 0.2 * max(drawn, 1) else "warn", text)


def suspects_clear(subject: Subject) -> Finding:
    """In how many tasks one variable stands out."""
    name = "Does every experiment have a clear suspect?"
    best = subject.posterior.target_probs.values.max(axis=1)
    clear = int((best >= HALF).sum())
    said = (
        f"In {clear} of {len(best)} experiments a variable was hit with probability {HALF} or more"
    )
    if clear == len(best):
        return Finding(name, "ok", f"{said}.")
    text = f"{said}. The others may be observational, or have too few rows to tell."
    return Finding(name, "warn", text)


def suspects_stable(subject: Subject) -> Finding | None:
    """Whether the main suspect depends on which graph is true."""
    by_graph = subject.targets_by_graph
    if by_graph is None:
        return None
    main = subject.posterior.target_probs.values.argmax(axis=1)
    share = (by_graph.argmax(axis=2) == main).mean(axis=0)
    stable = int((share >= SURE).sum())
    text = (
        f"In {stable} of {len(main)} experiments the main suspect is the same under at least "
        f"{SURE:.0%} of the sampled graphs"
    )
    name = "Do the suspects depend on the graph?"
    if stable == len(main):
        return Finding(name, "ok", f"{text}.")
    worst = subject.tasks.tasks[int(share.argmin())]
    return Finding(name, "warn", f"{text}; least of all in {worst} ({share.min():.0%}).")


def targets_few(subject: Subject) -> Finding:
    """Whether variables are targets more often than not, as where the model collapsed."""
    mean = float(subject.posterior.target_probs.values.mean())
    number = mean * len(subject.tasks.variables)
    text = f"An experiment hits {number:.1f} of {len(subject.tasks.variables)} variables on average"
    name = "Are targets the exception?"
    if mean <= QUARTER or number <= FEW:
        return Finding(name, "ok", f"{text}.")
    if mean <= HALF:
        return Finding(name, "warn", f"{text}, which is more than experiments usually do.")
    return Finding(name, "bad", f"{text}: only the ranking means anything. Add experiments.")


def conflicts(subject: Subject) -> Finding | None:
    """Whether rows speak against what was declared."""
    if subject.tasks.known_targets is None:
        return None
    name, against = "Do the rows contradict what was declared?", subject.posterior.conflicts
    if not against:
        return Finding(name, "ok", "No declared target has 10 nats or more against it.")
    one = against[0]
    text = (
        f"{len(against)} declared targets do. The worst: {one.variable}, declared {one.declared} "
        f"in {one.task}, with {one.against:.0f} nats against it. Check what was declared."
    )
    return Finding(name, "bad", text)


def guide_near(subject: Subject) -> Finding | None:
    """Of the svi engine: whether the guide stands for the posterior."""
    found = of_guide(subject.model.posterior, num_draws=1000, seed=0)
    if found.status == "unknown":
        return None  # Markov chains have no guide
    text = f"Pareto's k is {found.value:.2f}. {found.verdict}"
    return Finding("Is the guide near the posterior?", found.status, text, found.value)


def tasks_explained(subject: Subject) -> Finding:
    """Whether tasks look as the model would make them."""
    values = subject.num_chains * int(sum(subject.tasks.num_rows)) * len(subject.tasks.variables)
    num_draws = min(MOST_DRAWS, max(FEWEST_REPLICATES, MOST_VALUES // values))
    found = of_tasks(subject.posterior, num_draws=num_draws, seed=0)
    return found._replace(name="Does the model explain every experiment?")


CHECKS: tuple[Callable[[Subject], Finding | None], ...] = (
    convergence,
    held_out,
    chains_on_edges,
    edges_decided,
    suspects_clear,
    suspects_stable,
    targets_few,
    guide_near,
    tasks_explained,
    conflicts,
)
"""All checks, in the order of the report: a further one is a function more."""


def _short(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "infinite"
