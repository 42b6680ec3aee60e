"""The notebooks keep their word: sources run from a clean interpreter, outputs are of them."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
# The third is run by tests/test_extending.py, in a namespace of its own, for what it leaves behind.
RUN_HERE = [path for path in SOURCES if not path.stem.startswith("03_")]
LARGEST = 600_000  # bytes of a notebook
MACHINE_PATH = re.compile(r"/(?:home|tmp|root|work|usr|Users)/")


def cells_of(source):
    """Kind and text of the cells of a script in percent format."""
    pieces = re.split(r"^# %%(.*)\n", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not pieces[0]
    cells = []
    for mark, text in zip(pieces[1::2], pieces[2::2], strict=True):
        kind = "markdown" if "[markdown]" in mark else "code"
        lines = text.strip("\n").split("\n")
        if kind == "markdown":
            lines = [re.sub("^# ?", "", line) for line in lines]
        cells.append((kind, "\n".join(lines)))
    return cells


def notebook_of(source):
    return json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))


def outputs_of(notebook):
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def test_every_notebook_has_a_source_and_every_source_a_notebook():
    stems = {path.stem for path in FOLDER.glob("*.ipynb")}
    assert stems == {path.stem for path in SOURCES}
    assert [path.stem[:3] for path in SOURCES] == [f"0{k}_" for k in range(1, 7)]


@pytest.mark.slow
@pytest.mark.parametrize("source", RUN_HERE, ids=lambda path: path.stem)
def test_a_source_runs_from_a_clean_interpreter_without_a_warning(source, tmp_path):
    environment = {**os.environ, "METACADI_SMOKE": "1", "MPLBACKEND": "agg"}
    environment["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent), *sys.path])
    options = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True}
    run = subprocess.run([sys.executable, "-W", "error", str(source)], timeout=280, **options)
    assert run.returncode == 0, run.stderr[-3000:]
    assert not run.stderr
    assert not list(tmp_path.iterdir())  # leaves nothing behind


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_and_source_are_in_step(source):
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook_of(source)["cells"]]
    assert cells == cells_of(source), "Run `make notebooks`."


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_was_run_from_top_to_bottom_and_shows_what_came_out(source):
    notebook = notebook_of(source)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = outputs_of(notebook)
    assert {output["output_type"] for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert all(output.get("name") != "stderr" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert sum("text/html" in output.get("data", {}) for output in outputs) >= 1


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_is_small_and_tells_nothing_of_the_machine(source):
    path = source.with_suffix(".ipynb")
    assert path.stat().st_size < LARGEST
    notebook = notebook_of(source)
    for output in outputs_of(notebook):
        output.get("data", {}).pop("image/png", None)
    assert not MACHINE_PATH.search(json.dumps(notebook))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert not any(cell["metadata"] for cell in notebook["cells"])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_smoke_size_is_read_in_the_first_code_cell_alone(source):
    code = [text for kind, text in cells_of(source) if kind == "code"]
    assert 'SMOKE = "METACADI_SMOKE" in os.environ' in code[0]
    assert not any("environ" in text for text in code[1:])
    assert any("SMOKE" in text for text in code[1:])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_text_stands_between_cells_of_code(source):
    cells = cells_of(source)
    assert cells[0][1].startswith("# ")  # a title
    assert "@@" not in source.read_text(encoding="utf-8")
    texts = [text for kind, text in cells if kind == "markdown"]
    assert len(texts) >= 0.5 * (len(cells) - len(texts))
    ast.parse(source.read_text(encoding="utf-8"))
