"""The pages that people read, taken apart: blocks of code, links, headings."""

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/howto/*.md")])
FENCE = re.compile(r"^```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
PREPARED = re.compile(r"<!-- run first\n(?P<code>.*?)-->", re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """Code of a page; `output` is what a text block right below it says that it prints."""

    language: str
    code: str
    line: int
    output: str | None = None


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """All fenced blocks, and what a comment says to run first, in their order."""
    text = page.read_text(encoding="utf-8")
    found = sorted([*FENCE.finditer(text), *PREPARED.finditer(text)], key=re.Match.start)
    taken = []
    for match, after in itertools.zip_longest(found, found[1:]):
        is_output = after is not None and after.groupdict().get("language") == "text"
        shown = is_output and not text[match.end() : after.start()].strip()
        line = text.count("\n", 0, match.start()) + 1
        language = match.groupdict().get("language", "python")
        taken.append(Block(language, match["code"], line, after["code"] if shown else None))
    return taken


def python_of(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


def commands_of(page: Path) -> Iterator[list[str]]:
    """Words of every command of a page's shell blocks, without comments."""
    for block in blocks(page):
        for line in block.code.splitlines() if block.language == "sh" else ():
            if words := shlex.split(line, comments=True):
                yield words


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link, as GitHub and the site call it."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """Targets of all links and pictures outside of code."""
    return LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
