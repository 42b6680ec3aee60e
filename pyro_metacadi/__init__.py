"""Bayesian causal discovery with unknown interventions, in Pyro.

`MetaCaDI` fits the posterior over one causal graph shared by many experiments ("tasks") and over
which variables each of them hit, then adapts to new tasks of a few rows in closed form. The
package's rooms, and who may import whom, are described in ARCHITECTURE.md.
"""

from pyro_metacadi._lazy import attach

__version__ = "0.1.0"
__all__ = [
    "MetaCaDI",
    "Posterior",
    "TaskDataset",
    "comparison",
    "diagnostics",
    "load_sachs",
    "metrics",
    "plots",
    "report",
    "simulators",
    "testing",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "MetaCaDI": ".estimator",
        "Posterior": ".inference.posterior",
        "TaskDataset": ".data.tasks",
        "comparison": ".comparison",
        "diagnostics": ".diagnostics",
        "load_sachs": ".data.sachs",
        "metrics": ".metrics",
        "plots": ".plots",
        "report": ".report",
        "simulators": ".simulators",
        "testing": ".testing",
    },
)
