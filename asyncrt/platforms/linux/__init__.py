"""The linux platform: namespaces, made here, as root and as an ordinary user."""

from __future__ import annotations
