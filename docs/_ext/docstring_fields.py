"""What autodoc and napoleon make of signatures and sections is put right."""

import re
from typing import Any

RETURNS = "Returns:"
ATTRIBUTES = ("attribute", "data", "property")
ALIASES = {
    r"~numpy\._typing\.\S*_Buffer .*?\[complex \| bytes \| str\]": "~numpy.typing.ArrayLike",
    r"Callable\[\[\.\.\.\], ": "Callable[..., ",
}
"""Types as they are written, for how they are defined."""


def write_aliases(app: Any, domain: str, kind: str, content: Any) -> None:
    """Name the types that are known by another name, before autodoc makes fields of them."""
    for types in app.env.current_document.autodoc_annotations.values():
        for name, text in types.items():
            for definition, alias in ALIASES.items():
                text = re.sub(definition, alias, text)
            types[name] = text


def write_returns(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make the section a field before napoleon does, to which a sentence with a colon is a type."""
    if RETURNS not in lines:
        return
    start = lines.index(RETURNS)
    end = start + 1
    while end < len(lines) and (not lines[end] or lines[end].startswith(" ")):
        end += 1
    lines[start:end] = [":returns:", *lines[start + 1 : end]]


def keep_first_sentence(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Begin a property with an empty comment: before a colon of its first line would be a type."""
    if what in ATTRIBUTES:
        lines[:0] = ["..", ""]


def setup(app: Any) -> dict[str, bool]:
    """Connect, with a higher priority than napoleon's and autodoc's own."""
    app.connect("autodoc-process-docstring", write_returns, priority=400)
    app.connect("autodoc-process-docstring", keep_first_sentence, priority=400)
    app.connect("object-description-transform", write_aliases, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
