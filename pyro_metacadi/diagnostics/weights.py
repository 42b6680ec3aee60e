"""How far a guide is from the posterior that it stands for."""

import xarray as xr

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.arviz_tables import pareto_shape
from pyro_metacadi.inference.draws import SVIChain
from pyro_metacadi.inference.posterior import Posterior

__all__ = ["K_MEANING", "pareto_k"]

K_MEANING = (
    "below 0.5: weights of draws have a variance, the guide is near the model's posterior; below "
    "0.7: near enough for averages; above: a few draws outweigh all others, so that probabilities "
    "are the guide's, not the model's; above 1 the weights have not even a mean"
)


def pareto_k(posterior: Posterior, *, num_draws: int = 1000, seed: int = 0) -> xr.DataArray:
    """Pareto's k of the importance weights p(draw, data) / q(draw): graph and targets jointly.

    It says how heavy the tail of the weights is, by which draws of the guide would become draws of
    the model's posterior, mechanisms as fitted.

    Args:
        posterior: Of the engine ``svi``.
        num_draws: Of each chain; fewer than a hundred say little.
        seed: Of the draws.

    Returns:
        k of each chain, dims (chain); ``attrs["meaning"]`` says what values mean.

    Raises:
        ConfigError: The engine is ``evidence``, whose draws are of Markov chains: there is no q.

    Source: Yao, Vehtari, Simpson and Gelman 2018, "Yes, but did it work?".
    """
    if not all(isinstance(chain, SVIChain) for chain in posterior.chains):
        raise ConfigError(
            "pareto_k: expected a posterior of engine='svi', got one of Markov chains, which have "
            "no guide q to be weighed against the model: it does not apply. Use r_hat or restarts."
        )
    statistics = posterior.statistics(num_draws, seed=seed)
    log_weight = (statistics["log_p"] - statistics["log_q"]).values.astype(float)
    values = [pareto_shape(weights) for weights in log_weight]
    return xr.DataArray(values, dims="chain", name="pareto_k", attrs={"meaning": K_MEANING})
