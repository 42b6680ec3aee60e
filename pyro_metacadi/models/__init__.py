"""The generative program: p(order) p(edge) p(target) p(readout) p(x | ...)."""

from pyro_metacadi._lazy import attach

__all__ = [
    "GaussianNoise",
    "GraphPrior",
    "Mechanisms",
    "MetaCaDIModel",
    "Noise",
    "SparseGraphPrior",
    "noise",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "GaussianNoise": ".noise",
        "GraphPrior": ".priors",
        "Mechanisms": ".mechanisms",
        "MetaCaDIModel": ".metacadi",
        "Noise": ".noise",
        "SparseGraphPrior": ".priors",
        "noise": ".noise",
    },
)
