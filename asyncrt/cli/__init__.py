"""The command `asyncrt`: everything goes through Engine and Container, nothing reads state itself."""

from __future__ import annotations

from asyncrt.cli.entry import main

__all__ = ["main"]
