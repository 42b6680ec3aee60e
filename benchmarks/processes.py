"""One computation in a process of its own, and what machine and versions it ran on."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

__all__ = ["Failed", "apart", "end_children_when_terminated", "provenance"]

_RUNNING: set[subprocess.Popen[str]] = set()


class Failed(RuntimeError):
    """A process took too long, died, or ended with an error; says which."""


def apart(
    module: str,
    arguments: Sequence[str],
    *,
    limit: float,
    threads: int = 1,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Mapping[str, Any]:
    """Run ``python -m module arguments`` and read the JSON of its last line.

    Args:
        module: That prints it.
        arguments: Of the command line.
        limit: Seconds after which it is stopped.
        threads: That libraries may use.
        environment: Variables that it has beside ours.

    Raises:
        Failed: There is no such line.
    """
    variables = {**os.environ, **environment, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        _RUNNING.add(child)
        try:
            output, errors = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"more than {limit:g} s") from error
        finally:
            child.kill()
            _RUNNING.discard(child)
    if child.returncode < 0:
        raise Failed(f"failed: ended by signal {-child.returncode}")
    if child.returncode:
        raise Failed(f"failed: {_message(errors)[:300] or 'no message'}")
    try:
        found: Mapping[str, Any] = json.loads(_last_line(output))
    except ValueError as error:
        raise Failed(f"failed: expected JSON, got {_last_line(output)[:100]!r}") from error
    return found


def end_children_when_terminated() -> None:
    """Let SIGTERM end the processes of `apart`, too; they would run on, and be started again."""

    def end(number: int, frame: Any) -> None:
        for child in list(_RUNNING):
            child.kill()
        os._exit(128 + number)  # threads that wait for children would start the next

    signal.signal(signal.SIGTERM, end)


FRAMES = re.compile(r"^Traceback \(most recent call last\):\n(?: .*\n)+", re.MULTILINE)
APPENDIX = "Trace Shapes:"
"""Behind it Pyro puts the shapes of all sites."""


def _message(errors: str) -> str:
    """What the last exception says, in all of its lines."""
    traces = list(FRAMES.finditer(errors))
    text = errors[traces[-1].end() :] if traces else _last_line(errors)
    return " ".join(text.split(APPENDIX)[0].split())


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def provenance(device: str = "cpu") -> dict[str, str]:
    """Machine and versions: ``machine``, ``torch``, ``python``."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return {"machine": name, "torch": torch.__version__, "python": platform.python_version()}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
