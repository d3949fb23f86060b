"""features: what this runtime can do on this machine, in OCI's words."""

from __future__ import annotations

import click

from asyncrt.cli import commands, output


@click.command(cls=commands.Command, examples=["asyncrt features"])
def features() -> int:
    """Print the OCI features document.

    It says what sandboxes can have on this machine: namespaces, mount options, capabilities, seccomp,
    hooks. What else a spec asks for is refused by its JSON path.
    """
    import asyncrt
    from asyncrt.platforms.linux.features import features as document

    output.write(output.json_text(document(asyncrt.__version__)))
    return 0
