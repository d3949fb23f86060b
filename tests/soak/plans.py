"""What is created in a soak: programs, layers, hooks and scores, drawn by dice and told to the log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncrt
from tests.helpers import sandboxes
from tests.helpers.capabilities import User

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from tests.soak.scene import Scene

# A program that ends by itself says with its exit code that it was this one.
SHORT_CODES = (3, 4, 5)
SHORT = "short"
_TREE = 'trap "" TERM; /bin/sleep 1000 & /bin/sleep 1000 & wait; wait; wait'
_WAIT = ["/bin/sleep", "1000"]
LOWEST_SCORE = 50
_SCORES = (100, 300, 500, 700, None, None, None, None)

HOOKS = ("createRuntime", "poststart", "poststop")  # in the order of a life
HOOK_FAILS = 7
FINE = "fine"
# Which hook, whose, the state that it hears, as one line in one write; and its exit status.
_HOOK = 'read -r state; printf "%s %s %s\\n" "$1" "$2" "$state" >>"$3"; exit "$4"'


class Plan(NamedTuple):
    """What to create, and what the log is to know of it.

    `facts`: the nonce of its mark, its program (SHORT: ends with `code`), its score, its hooks (FINE,
    or the kind that fails, or ""), the directory of a kept layer.
    """

    spec: asyncrt.Spec
    overlay: asyncrt.Overlay | None
    facts: dict[str, Any]


class Plans:
    """Draws plans."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        self._scene = scene
        self._dice = dice

    def of_sandbox(self, pod: str) -> Plan:
        """A sandbox's root container: its score counts for nobody but itself."""
        overlay = None
        if self._scene.is_on_linux(pod) and self._dice.random() < 0.3:
            overlay = self._overlay(pod)
        return self._plan(pod, pod, _WAIT, {"program": "waits"}, overlay)

    def of_container(self, id: str, pod: str) -> Plan:
        """One beside it: one that waits, one that ends soon, or one with descendants."""
        dice = self._dice
        overlay = None
        if self._scene.is_on_linux(pod) and dice.random() < 0.4:
            overlay = self._overlay(pod)
        chance = dice.random()
        if chance < 0.5:
            return self._plan(id, pod, _WAIT, {"program": "waits"}, overlay)
        if chance < 0.75:
            code = dice.choice(SHORT_CODES)
            script = f"/bin/sleep 0.{dice.randrange(1, 6)}; exit {code}"
            facts = {"program": SHORT, "code": code}
            return self._plan(id, pod, ["/bin/sh", "-c", script], facts, overlay)
        return self._plan(id, pod, ["/bin/sh", "-c", _TREE], {"program": "tree"}, overlay)

    def of_nothing(self, id: str, pod: str, score: int | None) -> Plan:
        """One that waits, with a score and with nothing else of all that."""
        return self._plan(id, pod, _WAIT, {"program": "waits"}, None, hooked=0, scores=[score])

    def _overlay(self, pod: str) -> asyncrt.Overlay:
        """A layer in memory, on disk, or kept: few directories, so that they are used again."""
        chance = self._dice.random()
        if chance < 0.5:
            return asyncrt.Overlay.memory("4M")
        if chance < 0.7 or self._scene.is_mapped(pod):
            return asyncrt.Overlay.disk(self._scene.layers)
        return asyncrt.Overlay.upper(self._dice.choice(self._scene.kept))

    def _plan(
        self,
        id: str,
        pod: str,
        args: list[str],
        facts: dict[str, Any],
        overlay: asyncrt.Overlay | None,
        *,
        hooked: float = 0.25,
        scores: Sequence[int | None] = _SCORES,
    ) -> Plan:
        dice, scene = self._dice, self._scene
        nonce = f"{dice.getrandbits(48):012x}"
        kept = overlay.path if overlay is not None and overlay.kind == "kept" else None
        if kept is not None and args == _WAIT:
            args = ["/bin/sh", "-c", f"echo {nonce} >>{scene.KEPT_LOG}; exec /bin/sleep 1000"]
        score = dice.choice(scores)
        fails = dice.choice(HOOKS[:2]) if dice.random() < 0.2 else FINE
        hooks = fails if dice.random() < hooked else ""
        facts = {**facts, "nonce": nonce, "score": score, "hooks": hooks, "kept": kept}
        env = scene.marking(id, nonce)
        if not scene.is_on_linux(pod):
            spec = asyncrt.Spec.command(
                args,
                env=env,
                oom_score_adj=score,
                hooks={
                    kind: [asyncrt.Hook(path=command[0], args=tuple(command[1:]))]
                    for kind, command in self._hooks(id, nonce, hooks).items()
                },
            )
            return Plan(spec, overlay, facts)
        who = sandboxes.MAPPED if scene.is_mapped(pod) else scene.who
        user = User("", os.geteuid(), os.getegid())
        made: dict[str, Any] = sandboxes.config(scene.rootfs, args, who=who, user=user)
        made["process"]["env"] += [f"{name}={value}" for name, value in env.items()]
        if score is not None:
            made["process"]["oomScoreAdj"] = score
        made["hooks"] = {
            kind: [{"path": command[0], "args": command[1:]}]
            for kind, command in self._hooks(id, nonce, hooks).items()
        }
        return Plan(sandboxes.spec(made), overlay, facts)

    def _hooks(self, id: str, nonce: str, fails: str) -> dict[str, list[str]]:
        """By kind: the program, and its arguments, its own name first."""
        if not fails:
            return {}
        begin = ["/bin/sh", "sh", "-c", _HOOK, "sh"]
        mark, path = str(self._scene.mark(id, nonce)), self._scene.hooks_path
        return {
            kind: [*begin, kind, mark, path, str(HOOK_FAILS if kind == fails else 0)]
            for kind in HOOKS
        }
