"""Objective (Eq. 7) -> training -> posterior -> ArviZ."""

from pyro_metacadi._lazy import attach

__all__ = ["MetaCaDIObjective", "Posterior", "train"]

__getattr__, __dir__ = attach(
    __name__,
    {"MetaCaDIObjective": ".objective", "Posterior": ".posterior", "train": ".training"},
)
