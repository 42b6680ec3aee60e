"""What an experiment is: tasks of unequal size, their readers and scaling, and Sachs' data."""

from pyro_metacadi._lazy import attach

__all__ = [
    "SachsData",
    "Standardizer",
    "TaskBatch",
    "TaskDataset",
    "load_sachs",
    "log_normalise",
    "mean_shift",
    "variance_ratio",
    "warn_about",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "SachsData": ".sachs",
        "Standardizer": ".scaling",
        "TaskBatch": ".batch",
        "TaskDataset": ".tasks",
        "load_sachs": ".sachs",
        "log_normalise": ".counts",
        "mean_shift": ".naive",
        "variance_ratio": ".naive",
        "warn_about": ".checks",
    },
)
