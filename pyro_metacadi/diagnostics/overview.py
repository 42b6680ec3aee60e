"""All diagnostics of one fit, each with a verdict in plain words."""

import numpy as np

from pyro_metacadi.diagnostics.agreement import r_hat, restarts
from pyro_metacadi.diagnostics.explained import NOT_EXPLAINED, explained_tasks
from pyro_metacadi.diagnostics.finding import Finding
from pyro_metacadi.diagnostics.weights import pareto_k
from pyro_metacadi.errors import ConfigError, MetaCaDIError
from pyro_metacadi.estimator import MetaCaDI
from pyro_metacadi.inference.posterior import Posterior

__all__ = ["of_guide", "of_tasks", "summary"]

AGREE = 1.1
GOOD, USABLE = 0.5, 0.7


def summary(model: MetaCaDI, *, num_draws: int = 100, seed: int = 0) -> list[Finding]:
    """Whether a fit can be believed.

    Args:
        model: Fitted.
        num_draws: Of each chain, for what is drawn.
        seed: Of the draws.

    Returns:
        Findings about convergence, restarts, R-hat, Pareto's k and the tasks, in this order.

    Raises:
        MetaCaDIError: The model is not fitted.
    """
    posterior = model.posterior
    return [
        _converged(model.converged),
        _restarts(posterior),
        _r_hat(posterior, num_draws=num_draws, seed=seed),
        of_guide(posterior, num_draws=10 * num_draws, seed=seed),
        of_tasks(posterior, num_draws=num_draws, seed=seed),
    ]


def _unknown(name: str, error: Exception) -> Finding:
    return Finding(name, "unknown", f"Unknown: {error}")


def _converged(converged: bool | None) -> Finding:
    name = "convergence"
    if converged is None:
        verdict = "Unknown: nothing was held out, or there is one Markov chain only."
        return Finding(name, "unknown", verdict)
    if converged:
        return Finding(name, "ok", "The fit had settled before it ended.", 1.0)
    return Finding(name, "warn", "The fit had not settled. Pass a larger num_steps.", 0.0)


def _restarts(posterior: Posterior) -> Finding:
    name = "restarts"
    try:
        found = restarts(posterior)
    except ConfigError as error:
        return _unknown(name, error)
    value = float(found["difference"].max())
    beyond = (found["difference"] - found["by_sampling"]).values
    parent, child = np.unravel_index(beyond.argmax(), beyond.shape)
    names = posterior.tasks.variables
    many = int(found["disagree"].sum())
    if many == 0:
        verdict = f"Chains agree about every edge, up to {value:.2f} in probability."
        return Finding(name, "ok", verdict, value)
    verdict = (
        f"Chains disagree about {many} edge(s), most about {names[parent]} -> {names[child]}. Do "
        f"not believe these edges; run more chains, or longer ones."
    )
    return Finding(name, "warn", verdict, value)


def _r_hat(posterior: Posterior, *, num_draws: int, seed: int) -> Finding:
    name = "R-hat"
    try:
        found = r_hat(posterior, num_draws=num_draws, seed=seed)
    except ConfigError as error:
        return _unknown(name, error)
    names = ("adjacency", "intervention_target")
    values = np.concatenate([found[one].values.ravel() for one in names])
    values = values[~np.isnan(values)]
    if not values.size:
        verdict = "All draws of all chains are equal: they agree, and R-hat is 0 / 0."
        return Finding(name, "ok", verdict)
    worst, many = float(values.max()), int((values >= AGREE).sum())
    if many == 0:
        return Finding(name, "ok", "Chains tell the same: all R-hats are below 1.1.", worst)
    verdict = (
        f"Chains tell different things about {many} of {values.size} edges and targets that vary "
        f"(R-hat of 1.1 or more). See restarts; run more or longer chains."
    )
    return Finding(name, "warn", verdict, worst)


def of_guide(posterior: Posterior, *, num_draws: int, seed: int) -> Finding:
    """Whether the svi engine's guide is near the posterior that it stands for."""
    name = "Pareto k"
    try:
        k = float(pareto_k(posterior, num_draws=num_draws, seed=seed).max())
    except ConfigError:
        verdict = "Does not apply: draws are of Markov chains, which have no guide to weigh."
        return Finding(name, "unknown", verdict)
    if k <= GOOD:
        return Finding(name, "ok", "The guide is near the model's posterior.", k)
    if k <= USABLE:
        verdict = "The guide is near enough to the model's posterior for averages."
        return Finding(name, "ok", verdict, k)
    verdict = (
        "The guide is far from the model's posterior: probabilities are the guide's. Train longer, "
        "compare restarts, or use engine='evidence'."
    )
    return Finding(name, "warn", verdict, k)


def of_tasks(posterior: Posterior, *, num_draws: int, seed: int) -> Finding:
    """Whether all tasks look as the model would make them."""
    name = "tasks"
    try:
        found = explained_tasks(posterior, num_draws=num_draws, seed=seed)
    except MetaCaDIError as error:
        return _unknown(name, error)
    excess, statistic = found["excess"].values, found["statistic"].values
    worst = int((excess / [NOT_EXPLAINED[str(one)] for one in statistic]).argmax())
    value, many = float(excess[worst]), int((~found["explained"]).sum())
    if not many:
        return Finding(name, "ok", "Every task looks as the model would make it.", value)
    verdict = (
        f"{many} task(s) do not look as the model would make them, most of all "
        f"{found['task'].values[worst]}. Look at its rows: errors of measurement, or an "
        f"intervention of another kind."
    )
    return Finding(name, "warn", verdict, value)
