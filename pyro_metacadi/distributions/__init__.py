"""Random orders, random DAGs and 0/1 variables as Pyro distributions."""

from pyro_metacadi._lazy import attach

__all__ = [
    "FewParents",
    "OrderedDAG",
    "PartlyKnownBernoulli",
    "PlackettLuce",
    "ScaleFreeEdges",
    "StraightThroughBernoulli",
    "edge_probability",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "FewParents": ".indegree",
        "OrderedDAG": ".dag",
        "PlackettLuce": ".order",
        "PartlyKnownBernoulli": ".bernoulli",
        "ScaleFreeEdges": ".scale_free",
        "StraightThroughBernoulli": ".bernoulli",
        "edge_probability": ".dag",
    },
)
