"""Random orders, random DAGs and 0/1 variables as Pyro distributions."""

from pyro_metacadi._lazy import attach

__all__ = [
    "OrderedDAG",
    "PartlyKnownBernoulli",
    "PlackettLuce",
    "StraightThroughBernoulli",
    "edge_probability",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "OrderedDAG": ".dag",
        "PlackettLuce": ".order",
        "PartlyKnownBernoulli": ".bernoulli",
        "StraightThroughBernoulli": ".bernoulli",
        "edge_probability": ".dag",
    },
)
