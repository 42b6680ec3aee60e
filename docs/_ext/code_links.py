"""Names in code type become links, in pages and docstrings alike, where the reference has them.

``Posterior.sample`` or ``MetaCaDI.fit(tasks)`` need no markup of Sphinx's, which GitHub would show.
A name that begins with ``pyro_metacadi.`` must be in the reference: otherwise it is gone, or wrong.
"""

import re
import sys
from typing import Any

from docutils import nodes
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

PACKAGE = "pyro_metacadi"
NAME = re.compile(r"(?P<name>[A-Za-z_][\w.]*\w)(\(.*\))?")
LONE_KINDS = ("class", "exception", "function")  # of names that may stand without a dot
logger = logging.getLogger(__name__)


def target_of(text: str, objects: dict[str, Any]) -> str | None:
    """Full name of what `text` means, if just one object of the reference is called that."""
    found = NAME.fullmatch(text.strip())
    if not found:
        return None
    name = found["name"]
    if name in objects:
        return name
    if name.startswith(f"{PACKAGE}."):
        return _exported(name, objects)
    dotted, spoken = "." in name, "_" in name or not name.islower()
    fitting = [
        full
        for full, entry in objects.items()
        if full.endswith(f".{name}")
        and not entry.aliased
        and (dotted or (spoken and entry.objtype in LONE_KINDS))
    ]
    return fitting[0] if len(fitting) == 1 else None


def _exported(name: str, objects: dict[str, Any]) -> str | None:
    """Where an object is described that its package exports under another name."""
    module, _, last = name.rpartition(".")
    if module not in sys.modules or not hasattr(sys.modules[module], last):
        return None
    described = [full for full, e in objects.items() if full.endswith(f".{last}") and not e.aliased]
    return described[0] if len(described) == 1 else None


def link_names(app: Any, doctree: nodes.document, docname: str) -> None:
    """Replace names by links; a name under a heading or in a link stays."""
    objects = app.env.domains["py"].objects
    for literal in list(doctree.findall(nodes.literal)):
        if isinstance(literal.parent, nodes.reference | nodes.title):
            continue
        text = literal.astext()
        target = target_of(text, objects)
        if target is None:
            if text.startswith(f"{PACKAGE}.") and NAME.fullmatch(text):
                logger.warning("%r is not in the reference", text, location=literal)
            continue
        entry = objects[target]
        link = make_refnode(
            app.builder, docname, entry.docname, entry.node_id, literal.deepcopy(), target
        )
        literal.replace_self(link)


def setup(app: Any) -> dict[str, bool]:
    """Connect the transformation."""
    app.connect("doctree-resolved", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
