"""What a diagnostic says, in plain words."""

import math
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Finding", "Status"]

Status: TypeAlias = Literal["ok", "warn", "bad", "unknown"]


class Finding(NamedTuple):
    """What one diagnostic says.

    Attributes:
        name: Of the diagnostic, or the question that it answers.
        status: ``"ok"``, ``"warn"``, ``"bad"`` or ``"unknown"``.
        verdict: In plain words; where it is not good, also what to do.
        value: The number behind it; NaN if there is none.
    """

    name: str
    status: Status
    verdict: str
    value: float = math.nan
