"""``{command-help} fit``: what ``metacadi fit --help`` prints, so that no page falls behind."""

import os
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from pyro_metacadi import cli


class CommandHelp(SphinxDirective):
    """The help of a command, or of all, as text."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """A literal block."""
        os.environ["COLUMNS"] = "90"  # of a page, not of the terminal that builds it
        printed = StringIO()
        with redirect_stdout(printed), suppress(SystemExit):
            cli.main([*" ".join(self.arguments).split(), "--help"])
        return [nodes.literal_block(text=printed.getvalue(), language="text")]


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
