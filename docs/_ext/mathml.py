"""Equations as MathML, which browsers draw themselves: no script, no network."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)

SPACING = {
    r"<mo>([‖∥])</mo>": r'<mo stretchy="false">\1</mo>',  # as tall as letters
    r"(<mo>&ApplyFunction;</mo>)(?=\s*<m(?:i|sub|sup|subsup)>)": r'\1<mspace width="0.17em"/>',
}
"""What TeX sets otherwise than browsers do: double bars, and log p."""


def _mathml(node: nodes.Element, *, as_block: bool) -> str:
    try:
        markup = tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logger.warning("equation: %s Write it otherwise.", error, location=node)
        return f"<code>{node.astext()}</code>"
    for browsers, tex in SPACING.items():
        markup = re.sub(browsers, tex, markup)
    return markup


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="equation">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
