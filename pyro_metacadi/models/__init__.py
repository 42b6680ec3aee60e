"""The generative program: p(order) p(edge) p(target) p(readout) p(x | ...)."""

from pyro_metacadi._lazy import attach

__all__ = [
    "ExpertGraphPrior",
    "FamilyGraphPrior",
    "GaussianNoise",
    "GraphPrior",
    "HeteroscedasticNoise",
    "LearnedGaussianNoise",
    "Mechanisms",
    "MetaCaDIModel",
    "NegativeBinomialNoise",
    "Noise",
    "PostNonlinearNoise",
    "Predictions",
    "ScaleFreeGraphPrior",
    "SparseGraphPrior",
    "StudentTNoise",
    "noise",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ExpertGraphPrior": ".expert",
        "FamilyGraphPrior": ".priors",
        "GaussianNoise": ".noise",
        "GraphPrior": ".priors",
        "HeteroscedasticNoise": ".noise",
        "LearnedGaussianNoise": ".noise",
        "Mechanisms": ".mechanisms",
        "MetaCaDIModel": ".metacadi",
        "NegativeBinomialNoise": ".noise",
        "Noise": ".noise",
        "PostNonlinearNoise": ".noise",
        "Predictions": ".predictions",
        "ScaleFreeGraphPrior": ".priors",
        "SparseGraphPrior": ".priors",
        "StudentTNoise": ".noise",
        "noise": ".noise",
    },
)
