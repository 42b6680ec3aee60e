"""Pictures of a posterior: who causes whom, what each task hit, and how far to believe it.

Darker is more probable, so the pictures survive a greyscale printer; what is known to be true is
outlined. Figures are made through matplotlib's object interface: no window, no global state, no
change of backend. In a notebook, ``ax.figure`` shows the picture.
"""

from pyro_metacadi._lazy import attach

__all__ = [
    "edge_heatmap",
    "graph",
    "intervention_effect",
    "loss_terms",
    "mechanism_curves",
    "ranked_targets",
    "reliability",
    "save_figure",
    "target_heatmap",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "edge_heatmap": ".heatmaps",
        "graph": ".graphs",
        "intervention_effect": ".effects",
        "loss_terms": ".training",
        "mechanism_curves": ".mechanisms",
        "ranked_targets": ".targets",
        "reliability": ".calibration",
        "save_figure": ".saving",
        "target_heatmap": ".heatmaps",
    },
)
