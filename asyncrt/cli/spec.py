"""spec: a config.json to begin with."""

from __future__ import annotations

import os

import click

from asyncrt.cli import commands, errors, output
from asyncrt.cli import parameters as p


@click.command(
    cls=commands.Command,
    examples=["asyncrt spec", "asyncrt spec --rootless --bundle ./web"],
)
@p.BUNDLE
@click.option(
    "--rootless/--rootful",
    default=None,
    help="For the calling user, or for root. Default: for whoever calls.",
)
def spec(bundle: str | None, rootless: bool | None) -> int:
    """Write a config.json to begin a bundle with.

    It runs a shell in the bundle's 'rootfs', read-only, in namespaces of its own, with the
    capabilities, masked paths and seccomp profile that podman gives by default. Change it as needed.
    One that is there already is left alone.
    """
    import json

    from asyncrt.oci import default_config
    from asyncrt.oci.bundle import CONFIG_NAME

    wanted = os.geteuid() != 0 if rootless is None else rootless
    if bundle == "":
        raise click.UsageError("--bundle names no directory; '.' is this one")
    path = os.path.join(bundle or ".", CONFIG_NAME)
    text = json.dumps(default_config(rootless=wanted), indent=2) + "\n"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        why = f"{path} is there already; remove it, or name another directory with --bundle"
        raise errors.CommandFailedError(why) from None
    except FileNotFoundError:
        why = f"there is no directory {bundle!r}: 'mkdir -p' it first"
        raise errors.CommandFailedError(why) from None
    output.write(f"wrote {path}\n")
    return 0
