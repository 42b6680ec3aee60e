"""What goes wrong, in words.

Every message follows one template: *what was checked: expected rule, got value [at task and column
by name]. One fix.* User errors are exceptions (also ``ValueError``), never ``assert``; whatever the
package repairs or leaves undefined on its own is a `MetaCaDIWarning`, never silent.
"""

__all__ = [
    "ConfigError",
    "ConformanceError",
    "DataError",
    "GraphError",
    "MetaCaDIError",
    "MetaCaDIWarning",
    "ModelFileError",
    "UndefinedMetricWarning",
]


class MetaCaDIError(ValueError):
    """Base of every error that a user of this package can cause and mend."""


class DataError(MetaCaDIError):
    """The data cannot be used: names the task and the column."""


class GraphError(MetaCaDIError):
    """An adjacency matrix is not a directed acyclic graph over the variables."""


class ConfigError(MetaCaDIError):
    """An option has a value that the model cannot honour."""


class ModelFileError(MetaCaDIError):
    """A saved model is missing, damaged or from another schema version."""


class ConformanceError(MetaCaDIError, AssertionError):
    """A part of one's own breaks a law that the model relies on (`pyro_metacadi.testing`)."""


class MetaCaDIWarning(UserWarning):
    """Something was repaired, left out or may mislead; the result is finite."""


class UndefinedMetricWarning(MetaCaDIWarning):
    """A score has no value on this input and is reported as NaN."""
