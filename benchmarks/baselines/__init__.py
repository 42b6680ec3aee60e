"""What one would use instead of MetaCaDI: every method behind one interface.

``baselines.fit("jci_pc", tasks, seed=0)`` gives a `BaselineResult`; the methods are listed in
`METHODS`. A module per method, imported when it is run, with its settings in capitals on top:
which of these are somebody else's, and which are our choice, is said there.
"""

from benchmarks.baselines.methods import METHODS, Method, fit
from benchmarks.baselines.result import BaselineResult

__all__ = ["METHODS", "BaselineResult", "Method", "fit"]
