"""The command, run by ``torchrun``, in which the second process is killed in the midst of a fit."""

import itertools
import os
import signal
import sys

import torch

from pyro_metacadi.cli import main
from pyro_metacadi.models.evidence import MechanismEvidence


def deadly(function, *, after):
    """The function, but for the call after so many, which kills the process."""
    calls = itertools.count()

    def called(*args, **kwargs):
        if next(calls) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return called


if __name__ == "__main__":
    torch.set_num_threads(1)
    if os.environ["RANK"] == "1":
        torch.optim.Adam.step = deadly(torch.optim.Adam.step, after=3)
        MechanismEvidence.fitted = deadly(MechanismEvidence.fitted, after=20)
    sys.exit(main(sys.argv[1:]))
