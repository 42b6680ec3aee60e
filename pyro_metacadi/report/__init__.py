"""One HTML page about a fitted model, which needs no network: figures, searchable tables, verdicts.

Whatever comes from the user's data is escaped.
"""

from pyro_metacadi._lazy import attach

__all__ = ["Table", "render_report", "write_report"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Table": ".tables",
        "render_report": ".page",
        "write_report": ".page",
    },
)
