"""Which platform makes a container. Chosen here, once, at its creation."""

from __future__ import annotations

from asyncrt.errors import SpecInvalid
from asyncrt.platforms import host, linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.launch.plan import OverlayPlan
    from asyncrt.oci import Spec
    from asyncrt.platforms.protocol import Beside, Platform

AUTO = "auto"

# From the one that does least to the one that does most: auto takes the first that honours the spec.
_PLATFORMS: tuple[Platform, ...] = (host, linux)

PLATFORM_NAMES: tuple[str, ...] = (AUTO, *(each.name for each in _PLATFORMS))


def choose(
    name: str, spec: Spec, beside: Beside | None = None, overlay: OverlayPlan | None = None
) -> Platform:
    """The platform called `name`; for "auto" the least one that honours the whole of `spec`.

    `beside` is the sandbox that it is for, if it isn't for one of its own; `overlay` the layer that it
    is to write to, if it is.

    If none does, auto gives the last for a spec that has namespaces, else the first, whose `plan`
    then names what it can't honour.

    Raises SpecInvalid for a name that doesn't exist.
    """
    if name == AUTO:
        able = (each for each in _PLATFORMS if not each.unsupported(spec, beside, overlay))
        linux = spec.config.linux
        return next(able, _PLATFORMS[-1 if linux is not None and linux.namespaces else 0])
    for each in _PLATFORMS:
        if each.name == name:
            return each
    why = f"there is no platform {name!r}; choose one of {', '.join(PLATFORM_NAMES)}"
    raise SpecInvalid(json_path="", why=why)
