"""What a report says, and that whatever comes from the user is shown, not run."""

import base64
import dataclasses
import html
import os
import re
import xml.etree.ElementTree as ET
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIError
from pyro_metacadi.models import SparseGraphPrior
from pyro_metacadi.report import Table, render_report, write_report
from pyro_metacadi.report.findings import CHECKS, SIGNS, findings
from pyro_metacadi.report.subject import Subject
from pyro_metacadi.report.tables import edge_table, target_table, task_table, variable_table
from pyro_metacadi.report.writing import GENERATOR, HEAD_BYTES
from tests.helpers import evidence_fit, fitted, tiny_estimator, tiny_tasks

NAMES = ["<script>alert(1)</script>", "a\"b'c & d", "x/y $\\beta$ 中文"]
TASKS = ["<img src=x onerror=alert(2)>", "</table>", "two words", "ß'"]


def awkward_model():
    tasks = TaskDataset.from_arrays(tiny_tasks().arrays, variables=NAMES, tasks=TASKS)
    return tiny_estimator().fit(tasks, progress=False)


class Page(HTMLParser):
    """Tags of a page, and the text of the cells of its tables."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.cells, self.images = [], [], []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "td":
            self._inside = True
            self.cells.append("")
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag):
        self._inside = self._inside and tag != "td"

    def handle_data(self, data):
        if self._inside:
            self.cells[-1] += data


def subject_of(model, tasks=None):
    return Subject(
        model, model.posterior if tasks is None else model.adapt(tasks), tasks is not None
    )


@pytest.fixture(scope="module")
def page():
    return render_report(evidence_fit(), title="A title")


def test_the_page_has_every_part_and_needs_nothing_else(page):
    for part in ("diagnostics", "graph", "targets", "fit", "data", "provenance"):
        assert f'<section id="{part}">' in page
    assert "<title>A title</title>" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert "@import" not in page
    assert "default-src 'none'" in page
    parsed = Page(page)
    assert parsed.tags.count("script") == 1
    assert len(parsed.images) == 4
    assert all(image["alt"] and image["src"].startswith("data:") for image in parsed.images)
    for image in parsed.images:
        svg = base64.b64decode(image["src"].split(",", 1)[1])
        assert ET.fromstring(svg).tag.endswith("svg")


def test_the_tables_hold_the_posterior(page):
    posterior = evidence_fit().posterior
    cells = Page(page).cells
    ranked = posterior.rank_targets()
    for task, variable, probability in ranked[["task", "variable", "probability"]].values:
        assert f"{probability:.3f}" in cells
        assert {task, variable} <= set(cells)
    rows = target_table(subject_of(evidence_fit())).rows
    assert [row[0] for row in rows] == list(ranked["task"])
    probs = posterior.target_probs
    for task, _, variable, probability, low, high in rows:
        assert probability == float(probs.sel(task=task, variable=variable))
        assert 0 <= low <= high <= 1


def test_edges_are_listed_by_probability_with_their_reverse():
    rows = edge_table(subject_of(evidence_fit())).rows
    probs = evidence_fit().posterior.edge_probs
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
    assert len(rows) == (probs.values >= 0.01).sum()
    for parent, child, probability, reverse in rows:
        assert probability == float(probs.sel(parent=parent, child=child))
        assert reverse == float(probs.sel(parent=child, child=parent))


def test_provenance_says_how_it_came_about():
    page = render_report(fitted(), record={"data": "cells <1>.csv", "files": ["a"]})
    cells = Page(page).cells
    assert "cells <1>.csv" in cells
    for name in ("engine", "seed", "option training.num_steps", "fitted with data", "torch"):
        assert f'<th scope="row">{name}</th>' in page
    assert "fitted with files" not in page
    assert "svi" in cells


def test_parts_of_the_users_own_are_named_though_they_cannot_be_written_down():
    def prior(num_variables, *, table):
        return SparseGraphPrior(num_variables, probability=table["edge"])

    frame = pd.Series({"edge": 0.3})
    model = tiny_estimator(graph_prior=partial(prior, table=frame))
    page = render_report(model.fit(tiny_tasks(), progress=False))
    assert '<th scope="row">option components</th>' in page
    (cell,) = [cell for cell in Page(page).cells if "prior" in cell and "Components" in cell]
    assert len(cell) <= 501


def test_whatever_the_user_named_is_text(tmp_path):
    model = awkward_model()
    page = render_report(
        model,
        title="<b>title</b>",
        further=[Table.of(pd.DataFrame({"<i>": ["</td><script>x</script>"]}), caption="<u>")],
        record={"data": "<s>"},
    )
    parsed = Page(page)
    assert parsed.tags.count("script") == 1
    assert not {"b", "i", "u", "s"} & set(parsed.tags)
    assert parsed.tags.count("img") == 4
    cells = {html.unescape(cell).strip() for cell in parsed.cells}
    assert {*NAMES, *TASKS} <= cells
    for image in parsed.images:
        svg = ET.fromstring(base64.b64decode(image["src"].split(",", 1)[1]))
        assert not [tag for tag in svg.iter() if tag.tag.endswith("script")]
    texts = "".join(
        ET.fromstring(base64.b64decode(parsed.images[1]["src"].split(",", 1)[1])).itertext()
    )
    assert all(name in texts for name in NAMES)


def test_new_experiments_are_reported_beside_the_training_data():
    new = tiny_tasks(rows=(5, 4), seed=3)
    page = render_report(fitted(), tasks=new)
    assert "new experiments" in page
    assert [row[0] for row in target_table(subject_of(fitted(), new)).rows] == ["task1"] * 3 + [
        "task2"
    ] * 3
    assert "4 experiments of 7 to 12 rows were trained on" in " ".join(page.split())


def test_large_tables_are_cut_and_say_so(monkeypatch):
    monkeypatch.setattr("pyro_metacadi.report.tables.MOST_ROWS", 8)
    subject = subject_of(evidence_fit())  # six tasks of four variables
    targets, edges = target_table(subject), edge_table(subject)
    assert len(targets.rows) == 6
    assert "Of each task, the first 1 of 4 variables are shown." in targets.note
    assert len(edges.rows) <= 8
    frame = pd.DataFrame({"n": range(20), "name": "a"})
    table = Table.of(frame, caption="some")
    assert "The first 8 of 20 rows are shown." in table.note
    assert [column.kind for column in table.columns] == ["number", "text"]


def test_too_many_probabilities_by_graph_are_left_out(monkeypatch):
    monkeypatch.setattr("pyro_metacadi.report.subject.MOST_BY_GRAPH", 10)
    subject = subject_of(evidence_fit())
    assert subject.targets_by_graph is None
    assert len(target_table(subject).columns) == 4
    assert "Do the suspects depend on the graph?" not in {f.name for f in findings(subject)}


def test_tables_of_the_data_are_in_the_users_units_and_say_what_was_declared():
    tasks = tiny_tasks().declare("task2", hit=["X1"], not_hit=["X3"])
    rows = task_table(tasks).rows
    assert rows[0] == ["task1", 12, "", 0]
    assert rows[1] == ["task2", 9, "X1", 1]
    assert len(task_table(tiny_tasks()).columns) == 2
    (first, *_) = variable_table(tasks).rows
    values = tasks.values[:, 0]
    np.testing.assert_allclose(first[1:], [values.mean(), values.std(), values.min(), values.max()])


@dataclasses.dataclass
class Stub:
    """As much of a subject as the checks look at."""

    history: dict
    model: object = None
    posterior: object = None
    tasks: object = None
    edges_by_chain: object = None
    targets_by_graph: object = None


def verdict(check, **parts):
    (function,) = [one for one in CHECKS if one.__name__ == check]
    found = function(Stub(**{"history": {"loss": np.zeros((1, 4))}, **parts}))
    return None if found is None else (found.status, found.verdict)


def model_that(converged):
    return type("Model", (), {"converged": converged})()


def posterior_with(**probs):
    arrays = {name: type("Array", (), {"values": np.array(v)})() for name, v in probs.items()}
    return type("Posterior", (), arrays)()


NINE = type("Tasks", (), {"variables": tuple("ABCDEFGHI"), "tasks": ("t1",)})()
TWO = type("Tasks", (), {"variables": ("A", "B"), "tasks": ("t1", "t2")})()


@pytest.mark.parametrize(
    ("check", "parts", "expected", "words"),
    [
        ("convergence", {"model": model_that(None)}, "unknown", "two chains"),
        (
            "convergence",
            {"model": model_that(True), "history": {"loss": np.full((2, 8), 3.0)}},
            "ok",
            "R-hat of the log score over 2 chains is 1.000",
        ),
        (
            "convergence",
            {
                "model": model_that(False),
                "history": {"loss": np.stack([np.arange(8.0), np.arange(8.0) + 50])},
            },
            "bad",
            "Draw more",
        ),
        (
            "held_out",
            {
                "model": model_that(True),
                "history": {"loss": np.ones((1, 3)), "held_out": np.array([[3.0, 2, 1.5]])},
            },
            "ok",
            "from 3.000 to 1.500",
        ),
        (
            "held_out",
            {
                "model": model_that(False),
                "history": {"loss": np.ones((1, 3)), "held_out": np.array([[3.0, 2, 1.5]])},
            },
            "bad",
            "Train longer",
        ),
        (
            "held_out",
            {
                "model": model_that(None),
                "history": {"loss": np.ones((1, 3)), "kl": np.ones((1, 3))},
            },
            "unknown",
            "nothing tells",
        ),
        ("chains_on_edges", {"edges_by_chain": np.zeros((1, 2, 2))}, "unknown", "one chain"),
        (
            "chains_on_edges",
            {"edges_by_chain": np.zeros((2, 2, 2)), "tasks": TWO},
            "ok",
            "same edges",
        ),
        (
            "chains_on_edges",
            {"edges_by_chain": np.array([[[0, 0.5], [0, 0]], [[0, 0.7], [0, 0]]]), "tasks": TWO},
            "warn",
            "0.20 at most, for A → B",
        ),
        (
            "chains_on_edges",
            {"edges_by_chain": np.array([[[0, 0], [1, 0]], [[0, 0], [0, 0]]]), "tasks": TWO},
            "bad",
            "for B → A; by 0.1 or more for 1 edges",
        ),
        (
            "edges_decided",
            {"posterior": posterior_with(edge_probs=[[0, 0.97], [0.01, 0]])},
            "ok",
            "1 edges are at least as probable",
        ),
        (
            "edges_decided",
            {"posterior": posterior_with(edge_probs=[[0, 0.6], [0.3, 0]])},
            "warn",
            "0.7 edges to be wrong or missing; 2 are between",
        ),
        (
            "suspects_clear",
            {"posterior": posterior_with(target_probs=[[0.9, 0.1], [0.2, 0.1]])},
            "warn",
            "In 1 of 2 experiments",
        ),
        (
            "suspects_stable",
            {
                "posterior": posterior_with(target_probs=[[0.9, 0.1], [0.4, 0.6]]),
                "targets_by_graph": np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.1, 0.9]]]),
                "tasks": TWO,
            },
            "warn",
            "least of all in t2 (50%)",
        ),
        (
            "targets_few",
            {"posterior": posterior_with(target_probs=[[0.9, 0.9]]), "tasks": TWO},
            "ok",
            "1.8 of 2 variables",
        ),
        (
            "targets_few",
            {"posterior": posterior_with(target_probs=[[0.4] * 9]), "tasks": NINE},
            "warn",
            "3.6 of 9 variables",
        ),
        (
            "targets_few",
            {"posterior": posterior_with(target_probs=[[0.9] * 9]), "tasks": NINE},
            "bad",
            "only the ranking",
        ),
    ],
)
def test_verdicts_in_plain_words(check, parts, expected, words):
    found, text = verdict(check, **parts)
    assert found == expected
    assert words in text


def test_checks_that_do_not_apply_say_nothing():
    assert verdict("held_out", model=model_that(True)) is None
    assert verdict("suspects_stable") is None
    assert verdict("conflicts", tasks=tiny_tasks()) is None


def test_declared_targets_that_rows_contradict_are_found():
    tasks = evidence_fit().posterior.tasks
    best = evidence_fit().posterior.rank_targets().query("rank == 1 and probability > .99").iloc[0]
    with pytest.warns(match="rows do not contradict"):
        subject = subject_of(evidence_fit(), tasks.declare(best.task, not_hit=[best.variable]))
    (found,) = [one for one in findings(subject) if "contradict" in one.name]
    assert found.status == "bad"
    assert f"{best.variable}, declared not hit in {best.task}" in found.verdict


@pytest.mark.parametrize("model", [evidence_fit, lambda: fitted(2)], ids=["evidence", "svi"])
def test_every_finding_has_a_known_verdict(model):
    found = findings(subject_of(model()))
    assert len(found) >= 5
    assert {one.status for one in found} <= set(SIGNS)


@pytest.fixture
def quick(monkeypatch):
    """Pages that are a title only, for what is about files."""
    monkeypatch.setattr(
        "pyro_metacadi.report.page.render_report",
        lambda _, *, title="": f"{GENERATOR}<title>{title}</title>",
    )


def test_a_page_is_known_by_its_head(page):
    assert GENERATOR in page[:HEAD_BYTES]


def test_a_report_is_replaced_on_request_and_nothing_else_is(tmp_path, quick):
    path, other = tmp_path / "report.html", tmp_path / "mine.html"
    other.write_text("<p>")
    write_report(fitted(), path)
    with pytest.raises(ConfigError, match="which exists"):
        write_report(fitted(), path)
    write_report(fitted(), path, overwrite=True, title="again")
    assert "<title>again</title>" in path.read_text("utf-8")
    with pytest.raises(ConfigError, match="expected an earlier report to replace"):
        write_report(fitted(), other, overwrite=True)
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_a_report_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, quick):
    path = tmp_path / "report.html"
    write_report(fitted(), path, title="old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        write_report(fitted(), path, overwrite=True)
    assert "<title>old</title>" in path.read_text("utf-8")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda at: write_report(fitted(), at / "no" / "r.html"),
            ConfigError,
            "report: expected an existing folder",
        ),
        (lambda at: write_report(fitted(), at), ConfigError, "report: expected a file, got the"),
        (lambda at: write_report(fitted(), 5), ConfigError, "report: expected a path, got 5"),
        (
            lambda at: write_report(MetaCaDI(), at / "r.html"),
            MetaCaDIError,
            "expected a fitted model",
        ),
        (
            lambda at: render_report(fitted(), tasks=[1]),
            DataError,
            "expected a TaskDataset",
        ),
    ],
)
def test_bad_input_is_named(tmp_path, call, error, message):
    with pytest.raises(error, match=message):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no folder here that nobody may write to")
def test_a_folder_that_nobody_may_write_to_is_one_clear_error(quick):
    with pytest.raises(ConfigError, match=r"report: expected a (file|folder) that can be written"):
        write_report(fitted(), "/proc/report.html")
