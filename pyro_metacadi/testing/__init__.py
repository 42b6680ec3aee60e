"""Do parts of one's own keep the laws that the model relies on? For use in one's own tests.

>>> from pyro_metacadi import testing
>>> testing.check_noise(MyNoise)                                             # doctest: +SKIP

Each check takes a class, or a `functools.partial` or function that makes one, as `MetaCaDI` does.
It returns nothing, or raises `ConformanceError`, an ``AssertionError`` that says which law is
broken and what to mend. The caller's random state is untouched.
"""

from pyro_metacadi._lazy import attach

__all__ = [
    "ConformanceError",
    "check_adaptation",
    "check_graph_prior",
    "check_noise",
    "check_target_predictor",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ConformanceError": ".laws",
        "check_adaptation": ".adaptation",
        "check_graph_prior": ".graph_prior",
        "check_noise": ".noise",
        "check_target_predictor": ".predictor",
    },
)
