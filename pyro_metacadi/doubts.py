"""What a fit warns of: targets everywhere, rows that are few, contradict, or are of other units.

Every function is called by one that the user calls, whose caller is the line that is named.
"""

import warnings

from pyro_metacadi.data.declared import UNKNOWN
from pyro_metacadi.data.names import listed
from pyro_metacadi.errors import MetaCaDIWarning
from pyro_metacadi.fitted import Fitted
from pyro_metacadi.inference.conflicts import warn_of
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.inference.user_units import counts_rows

__all__ = [
    "warn_if_rows_are_few",
    "warn_if_targets_collapsed",
    "warn_if_units_differ",
    "warn_of_conflicts",
]

COLLAPSED = 0.5
"""Mean probability of a target above which there are more targets than not."""

FEW_TASKS = 20
"""Of many on disk, so many are judged to see whether targets collapsed."""

MANY = 0.5
"""Share of the variables that one experiment does not move beyond all rows ever seen."""

FEWEST_VARIABLES = 3


def warn_if_targets_collapsed(fit: Fitted) -> None:
    """Warn where variables are more often targets than not."""
    posterior = fit.training_posterior
    if fit.tasks.on_disk:  # judging all would take as long as reading, and fitting to, all
        posterior = fit.posterior(fit.tasks[:FEW_TASKS], seed=fit.seed)
    probs, known = posterior.target_probs.values, posterior.tasks.known_targets
    inferred = probs if known is None else probs[known == UNKNOWN]
    mean = float(inferred.mean()) if inferred.size else 0.0
    if mean > COLLAPSED:
        warnings.warn(
            f"targets: expected few per task, got a mean probability of {mean:.2f}, so that "
            f"only their ranking means anything. Train longer, or add tasks.",
            MetaCaDIWarning,
            stacklevel=3,
        )


def warn_of_conflicts(posterior: Posterior) -> None:
    """Warn of declared targets that the rows speak against."""
    warn_of(posterior.conflicts, stacklevel=3)


def warn_if_rows_are_few(fit: Fitted, posterior: Posterior) -> None:
    """Warn of tasks whose rows cannot tell a variable's parents apart."""
    if not fit.engine.fits_to_support:
        return
    tasks, parents = posterior.tasks, posterior.edge_probs.sum("parent")
    most = parents.isel(child=int(parents.values.argmax()))
    few = [name for name, n in zip(tasks.tasks, tasks.num_rows, strict=True) if n < most]
    if few:
        warnings.warn(
            f"support: expected at least as many rows as a variable has probable parents "
            f"({most.child.item()!r} has {float(most):.1f}), got fewer in {len(few)} of "
            f"{len(tasks)} tasks, such as {few[0]!r}. Pass more rows, or use "
            f"engine='evidence', which learns what a hit looks like from the training tasks.",
            MetaCaDIWarning,
            stacklevel=3,
        )


def warn_if_units_differ(fit: Fitted, posterior: Posterior) -> None:
    """Warn of tasks most of whose variables are, in all rows, beyond all training rows.

    A hit moves one variable and what follows from it. Logarithms of what the model saw as raw
    values move all of them, and would be judged, and found guilty, with confidence. So does the
    depth of counts, which is nothing of the kind: these are not asked.
    """
    tasks, counts = posterior.tasks, counts_rows(fit.scaling.units)
    if counts or fit.range is None or len(tasks.variables) < FEWEST_VARIABLES:
        return
    low, high = fit.range
    beyond = [float(((rows.min(0) > high) | (rows.max(0) < low)).mean()) for rows in tasks.arrays]
    odd = [repr(name) for name, share in zip(tasks.tasks, beyond, strict=True) if share > MANY]
    if odd:
        share = max(beyond) * len(tasks.variables)
        warnings.warn(
            f"rows: expected most variables between the least and the largest of the training "
            f"rows, got up to {share:.0f} of {len(tasks.variables)} beyond, in all rows of task "
            f"{listed(odd)}. Are they in the same units? If not, their targets mean nothing. (A "
            f"hit that is far off, and moves all these variables, does this as well.)",
            MetaCaDIWarning,
            stacklevel=3,
        )
