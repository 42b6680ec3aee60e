"""A module imports only from its own room and from the rooms before it (ARCHITECTURE.md)."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

PACKAGE = "pyro_metacadi"
ROOT = Path(__file__).parents[1] / PACKAGE

ROOMS = [
    {"errors", "typing", "checks", "_lazy", "_files", "_arrays", "_ranks"},
    {"ops"},
    {"distributions"},
    {"data"},
    {"simulators"},
    {"models"},
    {"guides"},
    {"inference"},
    {"metrics", "calibration", "_truth"},
    {"parts"},
    {"components"},
    {"engines"},
    {"fitted"},
    {"doubts"},
    {"estimator"},
    {"left_out"},
    {"tuning"},
    {"comparison"},
    {"diagnostics"},
    {
        "plots",
        "report",
        "testing",
        "demo",
        "cli",
        "_input",
        "_output",
        "_parser",
        "_simulate",
        "_tune",
        "__main__",
    },
]
LEVEL = {name: level for level, room in enumerate(ROOMS) for name in room}
NARROW = {
    "metrics": ROOMS[0] | {"ops", "_truth", "calibration"},
    "calibration": ROOMS[0] | {"_truth"},
    "_truth": ROOMS[0] | {"ops"},
    "simulators": ROOMS[0] | {"ops", "data"},
}
"""Rooms that see less than all rooms before them: they serve other people's models too."""


@dataclass(frozen=True)
class Import:
    """An import of `name` (of all of the module, if None) from `module`, at `line`."""

    module: str
    name: str | None
    line: int


def read_package() -> dict[str, str]:
    """Source of every module by its dotted name; a package's is that of its `__init__`."""
    sources = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        sources[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return sources


def imports_of(source: str) -> Iterator[Import]:
    """Every import of the package's own modules: in functions and for type checkers as well."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if node.level or module.split(".")[0] == PACKAGE:
                for alias in node.names:
                    yield Import(module, alias.name, node.lineno)


def lazy_names(source: str) -> dict[str, str]:
    """The dictionary of a package's `attach`: public name -> relative module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "attach":
            return ast.literal_eval(node.args[1])
    return {}


def resolve(imported: Import, sources: dict[str, str]) -> str:
    """The module that an import ends at, through lazy packages."""
    submodule = f"{imported.module}.{imported.name}"
    if submodule in sources:
        return submodule
    lazy = lazy_names(sources.get(imported.module, "")).get(imported.name or "")
    return imported.module + lazy if lazy else imported.module


def room_of(module: str) -> str:
    """The room of a dotted name; the package itself has none."""
    return module.partition(".")[2].partition(".")[0]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def reaches_private(importer: str, target: str, name: str | None) -> bool:
    """Whether a private name, or a private module of another package, is imported."""
    parents = [target.rsplit(".", k)[0] for k in range(target.count("."), 0, -1)]
    hidden = [p for p, part in zip(parents, target.split(".")[1:], strict=True) if is_private(part)]
    if any(importer != p and not importer.startswith(f"{p}.") for p in hidden):
        return True
    return name is not None and is_private(name) and not target.endswith(f".{name}")


def violations(importer: str, sources: dict[str, str]) -> list[str]:
    """What is wrong with the imports of a module, as `module:line: reason`."""
    found = []
    for imported in imports_of(sources[importer]):
        where = f"{importer}:{imported.line}"
        if imported.module.startswith("."):
            found.append(f"{where}: relative import of {imported.module}")
            continue
        target = resolve(imported, sources)
        if reaches_private(importer, target, imported.name):
            found.append(f"{where}: private {target} {imported.name or ''}".rstrip())
        if not may_import(room_of(importer), room_of(target)):
            found.append(f"{where}: {importer} may not import {target}")
    return found


def may_import(importer: str, target: str) -> bool:
    """Whether one room may import from another; the package itself holds only its version."""
    if importer == target or not target:
        return True
    if importer in NARROW:
        return target in NARROW[importer]
    if not importer:
        return target == "_lazy"
    return target in LEVEL and importer in LEVEL and LEVEL[target] <= LEVEL[importer]


def cycles(sources: dict[str, str]) -> list[list[str]]:
    """Circles of modules that import one another, at whatever time they do."""
    graph = nx.DiGraph()
    for importer, source in sources.items():
        graph.add_edges_from((importer, resolve(i, sources)) for i in imports_of(source))
    return [sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1]


SOURCES = read_package()


def test_every_module_has_a_room():
    rooms = {room_of(module) for module in SOURCES} - {""}
    assert rooms <= set(LEVEL), "give new modules a room in ROOMS and in ARCHITECTURE.md"


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_from_rooms_before_it(module):
    assert violations(module, SOURCES) == []


def test_no_modules_import_one_another_in_a_circle():
    assert cycles(SOURCES) == []


def test_lazy_names_of_a_room_stay_in_it():
    for module, source in SOURCES.items():
        if module != PACKAGE:
            for name, target in lazy_names(source).items():
                assert module + target in SOURCES, f"{module}: {name} is in no module"


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("ops.new", "from pyro_metacadi.data import TaskBatch", "may not import .*data.batch"),
        ("ops.new", "import pyro_metacadi.unheard_of", "may not import .*unheard_of"),
        ("ops.new", "import pyro_metacadi.models.noise", "may not import .*models.noise"),
        ("ops.new", "from pyro_metacadi import metrics", "may not import pyro_metacadi.metrics"),
        ("data.new", "from pyro_metacadi import MetaCaDI", "may not import .*estimator"),
        ("data.new", "def f():\n    import pyro_metacadi.plots", ":2: .*may not import .*plots"),
        (
            "models.new",
            "if TYPE_CHECKING:\n    from pyro_metacadi.guides import DAGGuide",
            ":2: .*may not import pyro_metacadi.guides.dag",
        ),
        ("metrics", "from pyro_metacadi.data.names import listed", "may not import .*data.names"),
        ("simulators.new", "from pyro_metacadi.distributions import PlackettLuce", "order"),
        ("estimator", "from pyro_metacadi.cli import main", "may not import pyro_metacadi.cli"),
        ("data.new", "from .tasks import TaskDataset", r"relative import of \.tasks"),
        ("data.new", "from .. import metrics", r"relative import of \.\."),
        ("models.new", "from pyro_metacadi.ops.hsic import _biased", "private .*hsic _biased"),
        ("plots", "from pyro_metacadi.simulators._arguments import check_count", "private"),
        ("plots", "from pyro_metacadi.simulators import _arguments", "private"),
    ],
)
def test_the_checker_sees_a_violation(module, source, message):
    name = f"{PACKAGE}.{module}"
    (found,) = violations(name, SOURCES | {name: source})
    assert re.search(message, found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("metrics", "from pyro_metacadi.ops.graphs import find_cycle"),
        ("estimator", "from pyro_metacadi import TaskDataset, __version__"),
        ("simulators.new", "from pyro_metacadi.simulators._arguments import check_count"),
        ("cli", "from pyro_metacadi._output import Output"),
        ("ops.new", "import torch\nfrom torch import Tensor\nimport pyro"),
    ],
)
def test_the_checker_lets_others_pass(module, source):
    name = f"{PACKAGE}.{module}"
    assert violations(name, SOURCES | {name: source}) == []


def test_the_checker_sees_a_circle_through_a_lazy_package():
    names = [f"{PACKAGE}.data.first", f"{PACKAGE}.data.second"]
    circle = {
        f"{PACKAGE}.data": 'attach(__name__, {"First": ".first"})',
        names[0]: "def f():\n    from pyro_metacadi.data.second import second",
        names[1]: "from pyro_metacadi.data import First",
    }
    assert cycles(SOURCES | circle) == [names]
