"""Packages that only the benchmark extra installs: the module, or a word about what is missing."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.question import Skipped


def peer(name: str) -> Any:
    """The module of that name."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Skipped(f"{name} isn't installed: pip install '.[bench]' ({error})") from error


def is_there(name: str) -> bool:
    """Whether it can be imported."""
    try:
        peer(name)
    except Skipped:
        return False
    return True
