"""How much memory the evidence engine takes, counted before it starts."""

from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.engines.protocol import MemoryNeeded
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.evidence import ENOUGH_VARIABLES, NUM_LANDMARKS
from pyro_metacadi.inference.screening import BASIS_FLOATS, FEW_VARIABLES, RESOLUTION
from pyro_metacadi.models.portions import AT_ONCE, HELD, set_bytes
from pyro_metacadi.ops.nystroem import num_landmarks

__all__ = ["check_memory_suffices", "evidence_memory"]

VALUE_BYTES = 100
"""Of a value of the data where laws of all variables are learned together, in float64."""


def evidence_memory(tasks: TaskDataset) -> MemoryNeeded:
    """Bytes that a fit to `tasks` takes, as `Portions` shares them out: rather too many."""
    sizes, features = tuple(tasks.num_rows.tolist()), NUM_LANDMARKS + 1
    else_bytes = tasks.values.size * VALUE_BYTES
    if len(tasks.variables) > FEW_VARIABLES:
        functions = num_landmarks(len(tasks.variables), resolution=RESOLUTION) + 1
        else_bytes += 2 * 4 * min(BASIS_FLOATS, tasks.values.size * functions)
    one_task, all_tasks = (set_bytes(features, counted) for counted in ((max(sizes),), sizes))
    held = min(ENOUGH_VARIABLES, len(tasks.variables)) * all_tasks
    least = max(AT_ONCE * one_task, HELD * else_bytes)
    return MemoryNeeded(least, max(least, AT_ONCE * all_tasks, HELD * held))


def check_memory_suffices(memory: int, tasks: TaskDataset) -> None:
    """Refuse less than the least.

    Raises:
        ConfigError: Names the task with the most rows.
    """
    least = evidence_memory(tasks).least
    if memory < least:
        largest = int(tasks.num_rows.argmax())
        raise ConfigError(
            f"memory_budget: expected at least {least:,} bytes, for {len(tasks.variables)} "
            f"variables and {tasks.num_rows[largest]} rows at once at task "
            f"{tasks.tasks[largest]!r}, got {memory:,}. Raise it, or give the task fewer rows."
        )
