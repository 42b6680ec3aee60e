"""The generative program: p(order) p(edge) p(target) p(readout) p(x | ...)."""

from pyro_metacadi._lazy import attach

__all__ = [
    "GaussianNoise",
    "GraphPrior",
    "HeteroscedasticNoise",
    "LearnedGaussianNoise",
    "Mechanisms",
    "MetaCaDIModel",
    "Noise",
    "PostNonlinearNoise",
    "SparseGraphPrior",
    "StudentTNoise",
    "noise",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "GaussianNoise": ".noise",
        "GraphPrior": ".priors",
        "HeteroscedasticNoise": ".noise",
        "LearnedGaussianNoise": ".noise",
        "Mechanisms": ".mechanisms",
        "MetaCaDIModel": ".metacadi",
        "Noise": ".noise",
        "PostNonlinearNoise": ".noise",
        "SparseGraphPrior": ".priors",
        "StudentTNoise": ".noise",
        "noise": ".noise",
    },
)
