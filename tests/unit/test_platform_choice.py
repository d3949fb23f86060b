"""Which platform a spec is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asyncrt.errors import AsyncrtError, SpecUnsupported
from asyncrt.oci import Spec
from asyncrt.platforms import PLATFORM_NAMES, Beside, Platform, choose, host
from tests.helpers.host_specs import spec_of

if TYPE_CHECKING:
    from asyncrt.launch.plan import OverlayPlan


def test_auto_takes_the_host_for_a_spec_that_asks_for_no_isolation() -> None:
    assert choose("auto", Spec.command(["a"])).name == "host"
    assert choose("host", Spec.command(["a"])).name == "host"


def test_auto_gives_a_platform_that_names_what_nobody_can_honour() -> None:
    spec = spec_of(hostname="h")
    platform: Platform = choose("auto", spec)
    with pytest.raises(SpecUnsupported) as caught:
        platform.plan(spec)
    assert caught.value.fields == ("hostname",)


def test_auto_takes_linux_for_a_spec_that_has_namespaces() -> None:
    spec = spec_of(linux={"namespaces": [{"type": "user"}], "uidMappings": [], "gidMappings": []})
    assert choose("auto", spec).name == "linux"


def test_auto_takes_the_first_that_honours_the_whole_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    class Able:
        name = "able"
        plan = staticmethod(host.plan)
        plan_exec = staticmethod(host.plan_exec)

        def unsupported(
            self, spec: Spec, beside: Beside | None = None, overlay: OverlayPlan | None = None
        ) -> list[str]:
            return []

    monkeypatch.setattr("asyncrt.platforms.choice._PLATFORMS", (host, Able()))
    assert choose("auto", spec_of(hostname="h")).name == "able"
    assert choose("auto", spec_of()).name == "host"
    assert choose("host", spec_of(hostname="h")).name == "host"


@pytest.mark.parametrize("name", ["linux-vm", "", "HOST", "host "])
def test_an_unknown_platform_is_one_error_that_lists_those_there_are(name: str) -> None:
    with pytest.raises(AsyncrtError) as caught:
        choose(name, Spec.command(["a"]))
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == f"there is no platform {name!r}; choose one of auto, host, linux"
    assert PLATFORM_NAMES == ("auto", "host", "linux")
