"""Worlds with a known truth: graphs, mechanisms, interventions and the tasks drawn from them."""

from pyro_metacadi._lazy import attach

__all__ = ["World", "erdos_renyi", "gp_anm", "linear_anm", "nn_anm", "scale_free", "sergio"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "World": ".world",
        "erdos_renyi": ".graphs",
        "gp_anm": ".gp",
        "linear_anm": ".neural",
        "nn_anm": ".neural",
        "scale_free": ".graphs",
        "sergio": ".genes",
    },
)
