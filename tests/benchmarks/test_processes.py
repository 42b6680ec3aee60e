"""What became of a computation in a process of its own is always told."""

import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import processes
from benchmarks.processes import Failed, apart, provenance

PROGRAM = """
import json, os, sys, time
what = sys.argv[1]
Slow = type("Slow", (Exception,), {"__module__": "builtins"})
if what == "fail":
    print("noise", file=sys.stderr)
    raise ValueError("too  few")
if what == "fail at length":
    raise ValueError("at site 'x':\\nexpected a real value\\nTrace Shapes:\\n x | 20 20")
if what == "fail at a rate":
    raise ValueError("too few\\nError rates are undefined")
if what == "fail in turn":
    try:
        raise ValueError("first")
    except ValueError as error:
        raise Slow("and then this") from error
if what == "exit":
    sys.exit("no settings")
if what == "die":
    os.kill(os.getpid(), 9)
if what == "sleep":
    time.sleep(60)
if what != "silent":
    print("noise")
    variables = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "KIND")}
    print(json.dumps(variables) if what == "ok" else what)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    (tmp_path / "program_for_test.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "program_for_test"


def test_the_last_line_is_the_outcome(program):
    found = apart(program, ["ok"], limit=30, threads=3, environment={"KIND": "of world"})
    assert found == {"OMP_NUM_THREADS": "3", "KIND": "of world"}
    assert apart(program, ["ok"], limit=30) == {"OMP_NUM_THREADS": "1", "KIND": None}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("fail", "failed: ValueError: too few"),
        ("fail at length", "failed: ValueError: at site 'x': expected a real value"),
        ("fail at a rate", "failed: ValueError: too few Error rates are undefined"),
        ("fail in turn", "failed: Slow: and then this"),
        ("exit", "failed: no settings"),
        ("die", "failed: ended by signal 9"),
        ("silent", "failed: expected JSON, got ''"),
        ("words", "failed: expected JSON, got 'words'"),
    ],
)
def test_whatever_fails_says_how(program, what, message):
    with pytest.raises(Failed) as caught:
        apart(program, [what], limit=30)
    assert str(caught.value) == message


def test_what_takes_too_long_is_ended(program):
    start = time.monotonic()
    with pytest.raises(Failed, match=r"more than 0.5 s"):
        apart(program, ["sleep"], limit=0.5)
    assert time.monotonic() - start < 20
    assert not processes._RUNNING


def test_children_end_with_their_parent(program, tmp_path):
    parent = (
        "from benchmarks.processes import *\nend_children_when_terminated()\n"
        f"apart({program!r}, ['sleep'], limit=60)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"}
    with subprocess.Popen([sys.executable, "-c", parent], env=environment) as running:
        children = []
        while not children and running.poll() is None:
            time.sleep(0.2)
            listed = subprocess.run(
                ["ps", "-o", "pid=", "--ppid", str(running.pid)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            children = listed.stdout.split()
        running.terminate()
        assert running.wait(20) == 128 + signal.SIGTERM
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{children[0]}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{children[0]}")


def test_where_it_ran_is_known():
    assert set(provenance()) == {"machine", "torch", "python"}
    assert "cores" in provenance()["machine"]
