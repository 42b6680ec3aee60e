"""Run the notebooks: `python notebooks/execute.py [NAME ...]`, or `make notebooks` for all.

``NN_name.py`` is the truth, a script in percent format; ``NN_name.ipynb`` is made of it here, in a
kernel of its own, and committed with its outputs. What would differ from run to run without meaning
anything (timings, random identifiers, the Python at hand) is left out. A notebook that fails, warns
or writes to stderr is not written.
"""

import argparse
import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
TIMEOUT = 900  # seconds a cell may take
ADDRESS, STYLE = re.compile(r" at 0x[0-9a-f]+"), re.compile(r"\bT_[0-9a-f]{5}\b")


def main() -> None:
    """Run the notebooks that are named, by default all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as 01_quickstart; by default all")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the notebooks made")
    options = parser.parse_args()
    # Progress bars are off, and what they would need is no concern of the reader's.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    for name in options.names or sorted(path.stem for path in FOLDER.glob("[0-9]*.py")):
        notebook = executed(FOLDER / f"{name}.py")
        nbformat.write(notebook, options.out / f"{name}.ipynb")
        print(f"{name}: {len(notebook.cells)} cells")


def executed(source: Path) -> nbformat.NotebookNode:
    """Return the notebook of a source, run in a fresh kernel in the source's folder.

    Raises:
        CellExecutionError: A cell raised.
        SystemExit: Something was written to stderr.
    """
    notebook = jupytext.read(source)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=TIMEOUT,
        record_timing=False,
        resources={"metadata": {"path": str(source.parent)}},
        startup_timeout=TIMEOUT,
    )
    client.execute()
    noise = [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    if noise:
        sys.exit(f"{source.name}: expected nothing on stderr, got\n{''.join(noise)}")
    return steady(notebook)


def steady(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook without what changes from run to run."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    for index, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{index}", nbformat.from_dict({})
    for number, output in enumerate(outputs(notebook)):
        output.pop("metadata", None)
        if output.output_type != "stream":
            output.metadata = nbformat.from_dict({})
        for kind, text in output.get("data", {}).items():
            if kind.startswith("text/"):
                output.data[kind] = STYLE.sub(f"T_{number:05d}", ADDRESS.sub("", text))
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return the outputs of all code cells."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


if __name__ == "__main__":
    main()
