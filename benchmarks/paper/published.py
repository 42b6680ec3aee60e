"""Figures that others published: of other data, on other machines, and not to be taken for ours.

NN-ANM: means over 29 or 30 seeds, recomputed from the results that BaCaDI's authors released with
their code, of 20 variables with Erdos-Renyi graphs, BaCaDI's protocol. Average precision, not the
trapezoidal area, is ``intv_ap``. Of JCI-PC and UT-IGSP they compare equivalence classes, in which
an edge without direction is right; ours are directed at random. Where we expect others:

* Their JCI-PC returns the empty graph and few targets. What we think, from reading the code and
  without running R: alpha reaches R as text, p-values are compared with it letter by letter, and
  only those of exactly 0 keep an edge. Ours compares numbers.
* Their DCDI-G finds targets no better than chance, for the choice between a mechanism and a hit has
  no gradient there (`benchmarks.baselines.dcdi_g`). Ours has one, and should do better than .07.
* Their BaCaDI is told the variance of noise and of hits. Ours is not.
* Their graphs have 38.9 edges on average (which is what their empty JCI-PC gets wrong).

MetaCaDI's own: Section 5.2 of the paper, arXiv version 1; its data and settings are in appendices
that are not public, and its area is probably trapezoidal, which is higher where scores tie.
"""

from typing import Any

import pandas as pd

__all__ = ["EMPTY", "ROWS", "printed", "row"]

ROWS = [
    ("nn-bacadi", "jci_pc", 38.9, 224.8, 0.598, 0.235, 114, 30),
    ("nn-bacadi", "utigsp", 35.1, 220.5, 0.987, 0.679, 70, 30),
    ("nn-bacadi", "dcdi_g", 64.9, 286.4, 0.488, 0.071, 8633, 29),
    ("nn-bacadi", "bacadi", 28.1, 179.0, 0.978, 0.582, 33119, 30),
    ("sergio", "paper", None, None, 0.740, 0.094, None, 20),
    ("gp", "paper", None, None, None, 0.351, None, 20),
]
COLUMNS = ("world", "method", "e_shd", "e_sid", "intv_auroc", "intv_ap", "seconds", "n")
PRINTED = ("E-SHD", "E-SID", "Intv-AUROC", "Intv-AUPRC")
EMPTY = {"nn-bacadi": {"e_shd": 38.9, "e_sid": 224.8}}
"""Distances of the empty graph, which their JCI-PC is."""


def row(world: str, method: str) -> dict[str, Any]:
    """Figures by name."""
    return next(dict(zip(COLUMNS, row, strict=True)) for row in ROWS if row[:2] == (world, method))


def printed() -> str:
    """The table."""
    table = pd.DataFrame(ROWS, columns=["world of this kind", "method", *PRINTED, "seconds", "n"])
    table["method"] = table["method"].replace({"paper": "MetaCaDI-Analytical"})
    lines = table.to_string(index=False, na_rep="-")
    return f"published by others (other data, other machines)\n{lines}"
