"""Whether a fit can be believed: restarts, importance weights, replicated data, calibration."""

from pyro_metacadi._lazy import attach

__all__ = [
    "Finding",
    "calibrate",
    "coverage",
    "explained_tasks",
    "pareto_k",
    "r_hat",
    "restarts",
    "summary",
    "uniformity",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Finding": ".finding",
        "calibrate": ".simulated",
        "coverage": ".simulated",
        "explained_tasks": ".explained",
        "pareto_k": ".weights",
        "r_hat": ".agreement",
        "restarts": ".agreement",
        "summary": ".overview",
        "uniformity": ".simulated",
    },
)
