"""Tables and numbers of ArviZ that its generations name, or compute, differently."""

import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from packaging.version import Version

from pyro_metacadi.inference.arviz import container, import_arviz

if TYPE_CHECKING:
    import pandas

__all__ = ["compared", "draws_table", "pareto_shape"]

WEIGHTS: Any = "BB-pseudo-BMA"
"""ArviZ's way to weigh models. Stacking would exponentiate scores that no float can hold."""

COMPARED = ["rank", "elpd", "se", "elpd_diff", "dse", "weight"]


def draws_table(data: Any, var_names: Sequence[str], *, kind: Any = "all") -> "pandas.DataFrame":
    """``arviz.summary`` of the posterior, whose constant draws are marked.

    The summary of ArviZ 1.x refuses variables over a dimension that is named ``variable``; here
    names of dimensions do not matter.

    Args:
        data: What `to_inference_data` made.
        var_names: Variables of the posterior.
        kind: As of ``arviz.summary``: ``"all"``, ``"stats"`` or ``"diagnostics"``.

    Returns:
        ArviZ's table and a column ``constant``: all draws of all chains are equal, such as those of
        an edge that is in every graph. R-hat and ESS are then 0 / 0, and what ArviZ says of them
        (NaN, or all draws) means nothing: chains agree.
    """
    arviz, posterior = import_arviz(), data["posterior"]
    drawn = xr.Dataset({name: posterior[name] for name in var_names})
    if "variable" in drawn.dims:
        drawn = drawn.rename(variable="target")
    data = container({"posterior": drawn}, {})
    with np.errstate(divide="ignore", invalid="ignore"):
        table = arviz.summary(data, kind=kind, round_to="none")
    flat = [drawn[name].values.reshape(-1, *drawn[name].shape[2:]) for name in var_names]
    constant = [(np.ptp(values, axis=0) == 0).ravel() for values in flat]
    return table.assign(constant=np.concatenate(constant))


def pareto_shape(log_weights: np.ndarray) -> float:
    """Pareto's k of the tail of importance weights ``[draw]``; -inf if all are equal."""
    if np.ptp(log_weights) < 1e-9:
        return -np.inf
    shifted = log_weights - log_weights.max()
    arviz = import_arviz()
    if Version(arviz.__version__).major == 0:
        return float(arviz.psislw(shifted)[1])
    from arviz_stats.base import array_stats

    return float(array_stats.psislw(-shifted)[1])  # which takes log likelihoods: weights' inverses


def compared(scores: Mapping[str, np.ndarray]) -> "pandas.DataFrame":
    """The table of the installed ``arviz.compare``, its columns named alike in all versions.

    Args:
        scores: Of every model, the log predictive density of each observation; two or more.

    Returns:
        One row per model, the best first: ``rank`` from 0; ``elpd``, the sum of its scores, and
        ``se``; ``elpd_diff``, how much less than the best's, and ``dse``, its standard error;
        ``weight``, the share of Bayesian bootstraps in which it predicts best.
    """
    arviz = import_arviz()
    data = {name: _elpd_data(arviz, np.asarray(values)) for name, values in scores.items()}
    is_old = Version(arviz.__version__).major == 0
    options: dict[str, Any] = {"seed": 0} if is_old else {"round_to": "none"}
    with warnings.catch_warnings():
        # Pandas deprecates what ArviZ 0.x calls.
        warnings.filterwarnings("ignore", message="The inplace keyword")
        table = arviz.compare(data, method=WEIGHTS, **options)
    table = table.rename(columns={"elpd_loo": "elpd"})[COMPARED]
    return table.assign(elpd_diff=table["elpd_diff"].abs())  # whose sign differs by version


def _elpd_data(arviz: ModuleType, scores: np.ndarray) -> Any:
    """What ``arviz.loo`` would return, of scores of observations that were really left out."""
    pointwise = xr.DataArray(scores, dims="task", name="loo_i")
    entries = {
        "elpd_loo": scores.sum(),
        "se": np.sqrt(len(scores) * scores.var()),
        "p_loo": np.nan,  # nothing is reweighted, so that no parameters are counted
        "n_samples": len(scores),
        "n_data_points": len(scores),
        "warning": False,
        "loo_i": pointwise,
        "scale": "log",
        "good_k": np.inf,
    }
    if Version(arviz.__version__).major > 0:
        from arviz_stats.utils import ELPDData

        renamed = {"elpd_loo": "elpd", "p_loo": "p", "loo_i": "elpd_i"}
        return ELPDData(**{renamed.get(name, name): value for name, value in entries.items()})
    from arviz.stats.stats_utils import ELPDData

    return ELPDData(data=list(entries.values()), index=list(entries))
