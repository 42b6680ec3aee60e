"""README and docs keep their word: all their code runs and prints what they say, links resolve."""

import importlib
import importlib.util
import re
from collections import defaultdict
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyro_metacadi import cli, plots
from pyro_metacadi._parser import build_parser
from pyro_metacadi.inference import Sampling
from tests.documents import PAGES, ROOT, anchors, blocks, commands_of, links, name_of, python_of

LANGUAGES = {"python", "sh", "text", "{toctree}", "{command-help}"}
ELSEWHERE = {"README.md", "CONTRIBUTING.md", "docs/diagnostics.md", "docs/extending.md"}
"""Whose Python has tests of its own: test_readme.py and test_extending.py."""

START = ROOT / "docs" / "quickstart.md"
GOING_ON = [p for p in PAGES if p != START and name_of(p) not in ELSEWHERE and python_of(p)]
WITH_COMMANDS = [page for page in PAGES if any(commands_of(page))]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
FASTER = ["--steps", "3", "--chains", "1", "--quiet"]


def run(page, names, folder, patch):
    """Run a page's Python in a folder, and compare what it prints with what the page shows."""
    patch.chdir(folder)
    for block in python_of(page):
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile("\n" * block.line + block.code, name_of(page), "exec"), names)
        if block.output is not None:
            check_output(block.output, printed.getvalue())
    return names


def check_output(shown, printed):
    """The same words; numbers may differ a little from machine to machine."""
    assert NUMBER.sub("#", shown).split() == NUMBER.sub("#", printed).split()
    said, got = ([float(n) for n in NUMBER.findall(text)] for text in (shown, printed))
    np.testing.assert_allclose(got, said, atol=0.05)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """What the quick start leaves behind, run as it is."""
    with pytest.MonkeyPatch.context() as patch:
        return run(START, {}, tmp_path_factory.mktemp("start"), patch)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With the files that pages speak of; fits draw few graphs."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(40, 3)), columns=["PKC", "PKA", "Raf"])
    table.insert(0, "condition", np.repeat(["control", "a", "b", "c"], 10))
    table.insert(1, "batch", random.integers(1, 3, 40))
    table.to_csv(tmp_path / "data.csv", index=False)
    table.head(12).to_csv(tmp_path / "new.csv", index=False)
    known = pd.DataFrame({"task": ["a"], "variable": ["PKA"], "hit": [1]})
    known.to_csv(tmp_path / "known.csv", index=False)
    monkeypatch.setattr(Sampling.__init__, "__defaults__", (20, 10, 2, "auto"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.slow
def test_the_quick_start_prints_what_it_shows_and_finds_the_targets(start):
    assert start["scores"]["intv_ap"] > 0.9
    assert start["scores"]["e_shd"] < 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit. expected chains that agree")  # they are very short
@pytest.mark.parametrize("page", GOING_ON, ids=name_of)
def test_pages_that_go_on_from_the_quick_start_run(page, start, folder, monkeypatch):
    few_rows = start["tasks"][:6].take_rows(12, seed=0)
    run(page, {**start, "tasks": few_rows}, folder, monkeypatch)


@pytest.mark.parametrize(
    ("shown", "printed"), [("edge 0.90", "edge 0.20"), ("True", "False"), ("1 2", "1")]
)
def test_another_output_is_noticed(shown, printed):
    with pytest.raises(AssertionError):
        check_output(shown, printed)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_shell_commands_run_at_small_size(page, folder, capsys):
    for words in commands_of(page):
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
            continue
        if words[0] == "torchrun":  # what each of its processes does
            words = words[words.index("-m") + 1 :]
        assert words[0] in ("metacadi", "pyro_metacadi")
        if words[1] == "tune":  # several fits: test_cli.py runs one
            assert build_parser(defaultdict(lambda: print)).parse_args(words[1:])
            continue
        faster = FASTER if words[1] == "fit" else []
        assert cli.main([*words[1:], *faster]) == 0, capsys.readouterr().err


def test_every_plot_is_told_of_and_every_picture_is_shown():
    page = ROOT / "docs" / "plots.md"
    told = set(re.findall(r"`plots\.(\w+)\(", page.read_text(encoding="utf-8")))
    assert told == set(plots.__all__)
    pictures = {path.relative_to(page.parent) for path in page.parent.glob("plots/*.png")}
    assert pictures == {Path(link) for link in links(page) if link.endswith(".png")}
    assert {name for name in told if name not in ("loss_terms", "save_figure")} <= {
        path.stem for path in pictures
    }


def test_the_site_takes_no_part_of_a_propertys_sentence_for_its_type():
    napoleon = pytest.importorskip("sphinx.ext.napoleon")
    path = ROOT / "docs" / "_ext" / "docstring_fields.py"
    spec = importlib.util.spec_from_file_location("docstring_fields", path)
    fields = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fields)
    lines = ["svi: whether the loss fell."]
    fields.keep_first_sentence(None, "property", "a.b", None, None, lines)
    written = napoleon.GoogleDocstring(lines, what="property", name="a.b").lines()
    assert "svi: whether the loss fell." in written
    assert not any(line.startswith(":type:") for line in written)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
    for target in links(page):
        if re.match("https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_of_modules_and_commands_are_known(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`(pyro_metacadi(?:\.\w+)+)", text):
        module, _, last = name.rpartition(".")
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
            continue
        assert hasattr(importlib.import_module(module), last), name
    for name in re.findall(r"python -m (benchmarks[.\w]*\w)", text):
        assert importlib.util.find_spec(name), name
