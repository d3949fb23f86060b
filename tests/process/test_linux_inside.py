"""Sandboxes of the linux platform, looked at from inside: by root, root with a map, and a user.

One sandbox each runs a battery of checks; every test asks for one answer of it. A second one of each
has it exec'd: what joins has all of it as well (a process that joins by setns has none of itself).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from asyncrt.oci.words import CAPABILITIES
from tests.helpers import capabilities, sandboxes
from tests.helpers.sandboxes import EVERYBODY, MAPPED, ROOT, USER

# Name of the check: a command of busybox' shell.
_CHECKS = {
    "ids": "id -u; id -g; id -G",
    "names": "hostname; cat /proc/sys/kernel/domainname",
    "pid": "echo $$; ls -d /proc/[0-9]* | wc -l",
    "session": "cut -d' ' -f6 /proc/self/stat",
    "cwd": "pwd",
    "env": "env | grep -v ^PWD= | grep -v ^SHLVL= | grep -v ^_= | sort",
    "umask": "umask",
    "files": "ulimit -n; ulimit -Hn",
    "score": "cat /proc/self/oom_score_adj",
    "descriptors": "ls /proc/$$/fd | tr '\\n' ' '",
    "root": "ls -d /*; touch /new",
    "mounts": "cut -d' ' -f2-4 /proc/self/mounts",
    "propagation": "grep -c shared: /proc/self/mountinfo",
    "null": "echo x > /dev/null; wc -c < /dev/null",
    "zero": "head -c 4 /dev/zero | od -An -tx1",
    "full": "echo x > /dev/full",
    "random": "(head -c 4 /dev/random; head -c 4 /dev/urandom) | wc -c",
    "tty": "[ -c /dev/tty ] && echo yes",
    "devices": "ls /dev",
    "links": "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done",
    "masked file": "cat /proc/keys /proc/timer_list",
    "masked directory": "ls -A /sys/firmware; touch /sys/firmware/x",
    "kernel parameters": "echo 1 > /proc/sys/kernel/shm_rmid_forced",
    "parameter": "cat /proc/sys/net/ipv4/ip_default_ttl",
    "interrupts": "echo 1 > /proc/irq/default_smp_affinity",
    "sysfs": "touch /sys/x",
    "loopback": "ip -o link show lo | grep -o 'LOOPBACK,UP'",
    "interfaces": "ls /sys/class/net",
    "uid map": "tr -s ' ' < /proc/self/uid_map",
    "home": "echo $HOME",
    "temporary": "touch /tmp/x && echo yes",
    "memory": "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
    "own executable": "readlink /proc/1/exe",
    "time": "test $(cut -d. -f1 /proc/uptime) -gt 5000000 && echo shifted",
    "noexec": "cp /bin/busybox /dev/shm/b 2>/dev/null; cp /bin/true /dev/shm/t; /dev/shm/t",
    "cgroup": "cut -d: -f3 /proc/self/cgroup | sort -u",
    "cgroups": "grep ' /sys/fs/cgroup' /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1 | sort -u",
    "queue": "touch /dev/mqueue/mine && ls /dev/mqueue",
    "terminals": "stat -c '%a %F' /dev/pts/ptmx",
    "capabilities": "grep -E '^Cap(Bnd|Eff|Prm|Inh|Amb)' /proc/self/status | cut -f2",
    "privileges": "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f2",
    "filter": "mkdir /tmp/never",
    "policy": "sed 's/.*) //' /proc/self/stat | cut -d' ' -f17,39",  # nice, policy
    "priority": "ionice -p $$",
    "domain": "cat /proc/self/personality",
    "arguments": 'printf "[%s]" "$0" "$@"',
}
_ARGUMENTS = ["", "two words", "*", "ü\n"]
_OFFSET = 6_000_000


class Answers:
    """What the battery said, by check."""

    def __init__(self, text: str, *, by_exec: bool) -> None:
        self.by_exec = by_exec
        parts = text.split("== ")[1:]
        self._by_name = {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in parts}

    def __call__(self, check: str) -> str:
        return self._by_name[check].strip()

    def lines(self, check: str) -> list[str]:
        return self(check).splitlines()


_NICE = min(os.nice(0) + 2, 19)  # nicer than we are: what needs no privilege
_GRANTED = ("CAP_CHOWN", "CAP_KILL", "CAP_DAC_OVERRIDE")


@pytest.fixture(scope="module", params=["init", "exec"])
def ask(rootfs: str, request: pytest.FixtureRequest) -> Callable[[str], Answers]:
    """The answers of the battery that one of EVERYBODY ran; each is run once."""
    known: dict[str, Answers] = {}
    script = "".join(f"echo '== {name}'\n({check}) 2>&1\n" for name, check in _CHECKS.items())
    user = capabilities.ordinary_user()

    def run(who: str) -> Answers:
        if who not in known:
            if not capabilities.is_root():
                capabilities.skip_lacking("uid 0, to become another user")
            if who == USER and not capabilities.has_userns():
                capabilities.skip_lacking("unprivileged user namespaces")
            args = ["/bin/sh", "-c", script, *_ARGUMENTS]
            made = sandboxes.config(rootfs, args, who=who, user=user)
            process, linux = made["process"], made["linux"]
            made["domainname"] = "example"
            process["env"].append("GREETING=hello world")
            process["user"]["umask"] = 0o027
            process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}]
            process["oomScoreAdj"] = 300
            linux["sysctl"] = {"net.ipv4.ip_default_ttl": "77"}
            linux["namespaces"].append({"type": "time"})
            offset = {"secs": _OFFSET, "nanosecs": 5}
            linux["timeOffsets"] = {"boottime": offset, "monotonic": offset}
            sets = ("bounding", "effective", "permitted")
            process["capabilities"] = {each: list(_GRANTED) for each in sets}
            process["noNewPrivileges"] = True
            process["scheduler"] = {"policy": "SCHED_BATCH", "nice": _NICE}
            process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
            linux["personality"] = {"domain": "LINUX32"}
            refused = ["mkdir", "mkdirat"]  # with an errno that no mkdir has of itself
            rule = {"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXFULL}
            linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
            made["mounts"].append(sandboxes.mount("/sys/fs/cgroup", "cgroup"))
            if who == MAPPED:
                process["user"]["additionalGids"] = [7, 9]
            by_exec = request.param == "exec"
            how = "started" if by_exec else ""
            code, out, err = sandboxes.ended_by(who, made, by_exec=how)
            assert err == "", err
            known[who] = Answers(out, by_exec=by_exec)
            assert set(known[who]._by_name) == set(_CHECKS), (code, out)
        return known[who]

    return run


everybody = pytest.mark.parametrize("who", EVERYBODY)


@everybody
@pytest.mark.parametrize(
    ("check", "answer"),
    [
        ("names", "box\nexample"),
        ("cwd", "/work"),
        ("env", "GREETING=hello world\nHOME=/root\nPATH=/bin"),
        ("umask", "0027"),
        ("files", "33\n44"),
        ("score", "300"),
        ("zero", "00 00 00 00"),
        ("random", "8"),
        ("null", "0"),
        ("tty", "yes"),
        ("links", "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx"),
        ("masked file", ""),
        ("parameter", "77"),
        ("loopback", "LOOPBACK,UP"),
        ("interfaces", "lo"),
        ("home", "/root"),
        ("temporary", "yes"),
        ("memory", "64"),
        ("own executable", "/bin/busybox"),
        ("propagation", "0"),
        ("cgroup", "/"),
        ("cgroups", "ro"),
        ("queue", "mine"),
        ("terminals", "666 character special file"),
        ("privileges", "1\n2"),
        ("filter", f"mkdir: can't create directory '/tmp/never': {os.strerror(errno.EXFULL)}"),
        ("policy", f"{_NICE} 3"),
        ("priority", "best-effort: prio 6"),
        ("domain", "00000008"),
        ("arguments", "[][two words][*][ü\n]"),
        ("time", "shifted"),
    ],
)
def test_it_is_inside_as_asked(
    ask: Callable[[str], Answers], who: str, check: str, answer: str
) -> None:
    assert ask(who)(check) == answer


@everybody
@pytest.mark.parametrize(
    ("check", "why"),
    [
        ("root", "/new: Read-only file system"),
        ("full", "No space left on device"),
        ("masked directory", "Read-only file system"),
        ("kernel parameters", "Read-only file system"),
        ("interrupts", "Read-only file system"),
        ("sysfs", "Read-only file system"),
        ("noexec", "Permission denied"),
    ],
)
def test_it_is_refused_inside(
    ask: Callable[[str], Answers], who: str, check: str, why: str
) -> None:
    said = ask(who)(check)
    # A file that isn't of a mapped user is refused for that before it is for the mount.
    assert why in said or (who != ROOT and "Permission denied" in said)


@everybody
def test_the_root_holds_its_own_files_only(ask: Callable[[str], Answers], who: str) -> None:
    found = {line for line in ask(who).lines("root") if line.startswith("/")}
    assert found == {
        *("/bin", "/data", "/dev", "/etc", "/home", "/proc", "/root", "/sys", "/tmp", "/work")
    }


@everybody
def test_the_process_is_the_first_of_its_pid_namespace(
    ask: Callable[[str], Answers], who: str
) -> None:
    first, count = ask(who).lines("pid")
    assert (first == "1") is not ask(who).by_exec
    assert int(count) <= 5, "only its own processes show"
    assert ask(who)("session") == first


@everybody
def test_no_descriptor_of_ours_is_open_inside(ask: Callable[[str], Answers], who: str) -> None:
    """CVE-2024-21626."""
    assert ask(who)("descriptors").split() == ["0", "1", "2"]


@everybody
def test_only_the_default_devices_are_there(ask: Callable[[str], Answers], who: str) -> None:
    assert set(ask(who).lines("devices")) == {
        *("fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm"),
        *("stderr", "stdin", "stdout", "tty", "urandom", "zero"),
    }


@everybody
def test_mounts_have_their_flags(ask: Callable[[str], Answers], who: str) -> None:
    found: dict[str, list[str]] = {}
    for line in ask(who).lines("mounts"):
        place, _, options = line.split()
        found[place] = options.split(",")
    assert found["/"][0] == "ro"
    assert found["/proc"][:4] == ["rw", "nosuid", "nodev", "noexec"]
    assert found["/sys"][:4] == ["ro", "nosuid", "nodev", "noexec"]
    assert found["/dev"][:2] == ["rw", "nosuid"]
    assert "relatime" not in found["/dev"], "strictatime was asked for"
    assert "mode=755" in found["/dev"]
    assert found["/proc/sys"][0] == "ro"


@pytest.mark.parametrize(("who", "line"), [(MAPPED, "0 100000 65536"), (USER, "0 {} 1")])
def test_ids_are_mapped(ask: Callable[[str], Answers], who: str, line: str) -> None:
    user = capabilities.ordinary_user()
    assert ask(who).lines("uid map") == [line.format(user.uid if user is not None else "")]
    assert ask(who).lines("ids")[:2] == ["0", "0"]


def test_additional_groups_are_those_of_the_config(ask: Callable[[str], Answers]) -> None:
    assert ask(MAPPED).lines("ids")[2] == "0 7 9"
    assert ask(ROOT).lines("ids")[2] == "0"


@everybody
def test_a_root_inside_has_the_capabilities_of_its_bounding_set(
    ask: Callable[[str], Answers], who: str
) -> None:
    mask = sum(1 << CAPABILITIES[each] for each in _GRANTED)
    found = [int(each, 16) for each in ask(who).lines("capabilities")]
    assert found == [0, mask, mask, mask, 0]  # inheritable, permitted, effective, bounding, ambient
