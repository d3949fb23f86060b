"""Specs for the host platform, and what it refuses of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asyncrt.errors import SpecUnsupported
from asyncrt.oci import Spec
from asyncrt.platforms import host

TRUE = {"cwd": "/", "args": ["true"], "env": ["HOME=/h"]}


def spec_of(process: dict[str, Any] | None = None, **config: Any) -> Spec:
    whole = {"ociVersion": "1.2.0", "process": {**TRUE, **(process or {})}, **config}
    return Spec.decode(json.dumps(whole).encode())


def refused(spec: Spec) -> tuple[str, ...]:
    with pytest.raises(SpecUnsupported) as caught:
        host.plan(spec)
    assert caught.value.platform == "host"
    assert list(caught.value.fields) == host.unsupported(spec)
    return caught.value.fields
