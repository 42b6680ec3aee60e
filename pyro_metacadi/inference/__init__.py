"""Objective (Eq. 7) -> training -> posterior -> ArviZ."""

from pyro_metacadi._lazy import attach

__all__ = [
    "ELBOObjective",
    "MetaCaDIObjective",
    "PaperObjective",
    "Posterior",
    "Sampling",
    "Training",
    "train",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ELBOObjective": ".objective",
        "MetaCaDIObjective": ".objective",
        "PaperObjective": ".objective",
        "Posterior": ".posterior",
        "Sampling": ".evidence",
        "Training": ".training",
        "train": ".training",
    },
)
