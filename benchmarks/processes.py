"""One computation in a process of its own, and what machine and versions it ran on."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

__all__ = ["Failed", "apart", "provenance"]


class Failed(RuntimeError):
    """A process took too long, died, or ended with an error; says which."""


def apart(
    module: str, arguments: Sequence[str], *, limit: float, threads: int = 1
) -> Mapping[str, Any]:
    """Run ``python -m module arguments`` and read the JSON of its last line.

    Args:
        module: That prints it.
        arguments: Of the command line.
        limit: Seconds after which it is stopped.
        threads: That libraries may use.

    Raises:
        Failed: There is no such line.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            timeout=limit,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"more than {limit:g} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise Failed(f"failed: {' '.join(last.split())[:300]}")
    found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def provenance(device: str = "cpu") -> dict[str, str]:
    """Machine and versions: ``machine``, ``torch``, ``python``."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return {"machine": name, "torch": torch.__version__, "python": platform.python_version()}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
