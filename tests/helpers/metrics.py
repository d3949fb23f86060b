"""The strict parsers of prometheus_client, with types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_openmetrics: Callable[[str], Iterable[Any]] = parser.text_string_to_metric_families
_prometheus: Callable[[str], Iterable[Any]] = text_string_to_metric_families


def openmetrics_families(text: str) -> list[Any]:
    """The families of an OpenMetrics text. Raises ValueError for what is none."""
    return list(_openmetrics(text))


def prometheus_families(text: str) -> list[Any]:
    """The families of a text of Prometheus' older format. Raises ValueError for what is none."""
    return list(_prometheus(text))
