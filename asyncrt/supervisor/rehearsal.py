"""What a spare process does before it is wanted: the first steps, without effect.

The first write to each page after a fork costs a page fault, about a thousand of them in a
supervisor's life, most in code that runs while somebody waits. Running that code once beforehand
moves them to where nobody does; the pages would become this process's own all the same.
"""

from __future__ import annotations

import json
import os
import select
import socket

from asyncrt import clock
from asyncrt.launch import frames, tree
from asyncrt.supervisor import launching
from asyncrt.supervisor.execs import exit_record
from asyncrt.supervisor.reactor import Connection, Reactor


def rehearse() -> None:
    """Go through a supervisor's steps with nobody at the other end."""
    ours, theirs = socket.socketpair()
    reactor = Reactor(lambda: None)
    heard: list[object] = []
    connection = Connection(reactor, ours, lambda *each: heard.append(each), heard.append)
    theirs.send(frames.encode({"op": "rehearse", "plan": {"args": ["true"], "rlimits": []}}))
    reactor.turn()
    connection.send({"launched": launching.identities(os.getpid())})
    frames.receive(theirs)
    json.dumps({**exit_record(0, "", clock.stamp()), "instance": ""})
    poller = select.poll()
    poller.register(theirs, select.POLLIN)
    poller.poll(0)
    tree.descendants(os.getpid())
    theirs.close()
    reactor.turn()
    reactor.close()
