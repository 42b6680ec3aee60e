"""Names of axes, used in every shape annotation of the package.

========== =============================================================================
axis       meaning
========== =============================================================================
variable   a measured variable, in the order of ``TaskDataset.variables``
parent     a variable as a cause: the *rows* of an adjacency matrix
child      a variable as an effect: the *columns*; ``adjacency[i, j] = 1`` is X_i -> X_j
task       an experiment: rows measured under one unknown intervention
sample     a row of a task, in the model's plate (``obs`` in ArviZ, where `sample` is reserved)
feature    a hidden unit of a mechanism, or a column of a feature matrix
draw       a posterior draw; any leading axes of draws are written ``*draw``
========== =============================================================================

Shapes are written with `jaxtyping`; the tests check them at every call, users pay nothing.
"""

from typing import Any, TypeAlias

import numpy as np

__all__ = ["Array"]

Array: TypeAlias = np.ndarray[Any, Any]
