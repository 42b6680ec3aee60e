"""The ways to get chains from tasks. A further one is a class as `Engine` describes it."""

from pyro_metacadi.engines.evidence import EvidenceEngine
from pyro_metacadi.engines.protocol import Engine, MemoryNeeded, Outcome, Scaling
from pyro_metacadi.engines.svi import SVIEngine

__all__ = ["ENGINES", "Engine", "MemoryNeeded", "Outcome", "Scaling"]

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (EvidenceEngine, SVIEngine)}
