"""Noise models: how an observation scatters around its mechanism's prediction.

A noise model is a module with two methods. ``linearize`` turns observations into a weighted linear
regression, so that adapting to a task stays closed-form; ``forward`` gives the law of x.
"""

from pyro_metacadi._lazy import attach

__all__ = [
    "CountNoise",
    "GaussianNoise",
    "HeteroscedasticNoise",
    "LearnedGaussianNoise",
    "NegativeBinomialNoise",
    "Noise",
    "PostNonlinearNoise",
    "StudentTNoise",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "CountNoise": ".counts",
        "GaussianNoise": ".gaussian",
        "HeteroscedasticNoise": ".heteroscedastic",
        "LearnedGaussianNoise": ".gaussian",
        "NegativeBinomialNoise": ".negative_binomial",
        "Noise": ".protocol",
        "PostNonlinearNoise": ".post_nonlinear",
        "StudentTNoise": ".student_t",
    },
)
