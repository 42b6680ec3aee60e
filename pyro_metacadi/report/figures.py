"""Figures as vector images inside the page."""

import base64
import io
import warnings
from dataclasses import dataclass
from typing import Any

from pyro_metacadi import plots
from pyro_metacadi.report.subject import Subject

__all__ = ["Figure", "edge_figure", "graph_figure", "loss_figure", "target_figure"]

READABLE, SHRINK = 560, 0.75  # pixels that every figure may have, and share of a wider one's


@dataclass(frozen=True)
class Figure:
    """An image of a report.

    Attributes:
        source: A data URI.
        alt: What it shows, for who cannot see it.
        caption: Below it.
        width: In CSS pixels, at full size.
    """

    source: str
    alt: str
    caption: str
    width: int

    @property
    def least_width(self) -> int:
        """Below which names could not be read: the figure scrolls instead."""
        return min(self.width, max(READABLE, round(SHRINK * self.width)))


def graph_figure(subject: Subject) -> Figure:
    """The graph."""
    probs = subject.posterior.edge_probs
    drawn = int((probs.values >= 0.5).sum())
    return _figure(
        plots.graph(probs),
        alt=f"Directed graph of {drawn} edges with a probability of at least 0.5",
        caption="Causes to the left of their effects; a wider line is a more probable edge.",
    )


def edge_figure(subject: Subject) -> Figure:
    """All edges as a heat map."""
    return _figure(
        plots.edge_heatmap(subject.posterior.edge_probs),
        alt="Heat map of the probability of every edge, causes as rows, effects as columns",
        caption="Darker is more probable; a row is a cause, a column an effect.",
    )


def target_figure(subject: Subject) -> Figure:
    """All targets as a heat map."""
    return _figure(
        plots.target_heatmap(subject.posterior.target_probs),
        alt="Heat map of the probability that each experiment hit each variable",
        caption="Darker is more probable; a row is an experiment.",
    )


def loss_figure(subject: Subject) -> Figure:
    """How the fit went."""
    evidence = len(subject.history) == 1
    caption = (
        "Each line is a chain of graphs after its warm-up. Chains that agree lie on one another, "
        "without a trend."
        if evidence
        else "The loss should have come to rest; the held-out loss is that of rows set aside."
    )
    alt = "Scores of the graphs drawn by every chain" if evidence else "Loss and its terms by step"
    return _figure(plots.loss_terms(subject.model.history), alt=alt, caption=caption)


def _figure(ax: Any, *, alt: str, caption: str) -> Figure:
    from matplotlib import rc_context

    figure, buffer = ax.figure, io.BytesIO()
    # Text stays text, and the same figure gives the same bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}), warnings.catch_warnings():
        # matplotlib has not every script, but who reads the page draws its letters.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    source = f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Figure(source, alt, caption, round(96 * figure.get_figwidth()))
