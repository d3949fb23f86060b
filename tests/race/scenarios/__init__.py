"""How each public awaitable is prepared, called, and judged when it was cancelled."""

from __future__ import annotations

# Imported, they put their scenarios among them.
from tests.race.scenarios import container, engine, files, pool, process, sandbox, terminal
from tests.race.scenarios.bench import SCENARIOS, Bench

__all__ = [
    "SCENARIOS",
    "Bench",
    "container",
    "engine",
    "files",
    "pool",
    "process",
    "sandbox",
    "terminal",
]
