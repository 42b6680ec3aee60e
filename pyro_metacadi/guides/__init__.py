"""The variational posterior: q(order) q(edge), readouts, q(target)."""

from pyro_metacadi._lazy import attach

__all__ = [
    "Adaptation",
    "DAGGuide",
    "FlattenedDeepSets",
    "MAMLAdaptation",
    "MetaCaDIGuide",
    "RidgeAdaptation",
    "SharedDeepSets",
    "TargetPredictor",
    "feature_blocks",
    "known_graph",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Adaptation": ".adaptation",
        "DAGGuide": ".dag",
        "FlattenedDeepSets": ".targets",
        "MAMLAdaptation": ".adaptation",
        "MetaCaDIGuide": ".metacadi",
        "RidgeAdaptation": ".adaptation",
        "SharedDeepSets": ".targets",
        "TargetPredictor": ".targets",
        "feature_blocks": ".features",
        "known_graph": ".dag",
    },
)
