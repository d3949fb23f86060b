"""What a process may do, read from inside: planned here, put on in a real process, as root and not."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncrt import _libc
from asyncrt.errors import SpecInvalid, SpecUnsupported
from asyncrt.launch import privileges as launched
from asyncrt.oci import Spec
from asyncrt.oci.default_seccomp import default_seccomp
from asyncrt.oci.words import CAPABILITIES
from asyncrt.platforms.linux import machine
from asyncrt.platforms.linux.privileges import plan_privileges
from tests.helpers.capabilities import has_userns, is_root, ordinary_user, skip_lacking
from tests.helpers.processes import REPOSITORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncrt.launch.plan import ProcessPlan

ROOT = "root"
USERNS = "an ordinary user in a user namespace"

# Prints what it is given by the kernel, then becomes the plan's process.
DRIVER = """
import ctypes, json, os, sys
from asyncrt.launch import failure, privileges, process
plan = json.loads(sys.argv[1])
try:
    if plan.pop("initial"):
        privileges.join_initial_cpus(plan["privileges"])
    process.prepare(plan, 0o022)
    process.execute(plan)
except failure.Failure as error:
    os.write(1, json.dumps(error.report()).encode())
    os._exit(99)
"""

STATUS = "cat /proc/self/status"


def decoded(process: dict[str, Any], linux: dict[str, Any] | None) -> Spec:
    config = {"ociVersion": "1.2.0", "process": {"cwd": "/", **process}, "linux": linux or {}}
    return Spec.decode(json.dumps(config).encode())


def planned(
    process: dict[str, Any], linux: dict[str, Any] | None = None, *, joins: bool = False
) -> ProcessPlan:
    config = decoded(process, linux).config
    assert config.process is not None
    plan, refused = plan_privileges(config.process, config.linux, joins=joins)
    assert refused == {}
    user = config.process.user
    return {
        "args": list(config.process.args or ()),
        "env": list(config.process.env or ("PATH=/usr/sbin:/usr/bin:/sbin:/bin",)),
        "cwd": "/",
        "uid": None if user is None else user.uid,
        "gid": None if user is None else user.gid,
        "groups": None,
        "umask": None,
        "rlimits": [],
        "no_new_privs": bool(config.process.no_new_privileges),
        "oom_score_adj": None,
        "privileges": plan,
    }


def run(plan: ProcessPlan, where: str, *, initial: bool = False, driver: str = DRIVER) -> str:
    """What the process wrote; asserts that it ended well or told of a failure."""
    command = [sys.executable, "-B", "-c", driver, json.dumps({**plan, "initial": initial})]
    who: dict[str, Any] = {}
    if where == USERNS:
        command = ["unshare", "--user", "--map-root-user", *command]
        if not has_userns():
            skip_lacking("unprivileged user namespaces")
        if (user := ordinary_user()) is not None and os.geteuid() == 0:
            who = {"user": user.uid, "group": user.gid, "extra_groups": []}
    elif not is_root():
        skip_lacking("uid 0")
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        **who,
    )
    assert done.returncode in (0, 99), done
    return str(done.stdout)


def shell(script: str, **process: Any) -> dict[str, Any]:
    return {"args": ["/bin/sh", "-c", script], **process}


def status(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def masks(text: str) -> dict[str, int]:
    found = status(text)
    return {name: int(found[f"Cap{name}"], 16) for name in ("Bnd", "Eff", "Prm", "Inh", "Amb")}


def mask(*names: str) -> int:
    return sum(1 << CAPABILITIES[f"CAP_{each}"] for each in names)


def named(*names: str) -> list[str]:
    return [f"CAP_{each}" for each in names]


NOBODY = {"uid": 65534, "gid": 65534}
both = pytest.mark.parametrize("where", [ROOT, USERNS])


@both
def test_a_root_inside_has_what_its_bounding_set_has(where: str) -> None:
    sets = {
        "bounding": named("CHOWN", "KILL", "NET_ADMIN"),
        "effective": named("CHOWN"),
        "permitted": named("CHOWN", "KILL"),
    }
    found = masks(run(planned(shell(STATUS, capabilities=sets)), where))
    bounding = mask("CHOWN", "KILL", "NET_ADMIN")
    # An exec as uid 0 gives all of the bounding set (capabilities(7)), whatever was permitted.
    assert found == {"Bnd": bounding, "Eff": bounding, "Prm": bounding, "Inh": 0, "Amb": 0}


@both
def test_a_process_for_which_no_capabilities_are_said_has_none(where: str) -> None:
    found = masks(run(planned(shell(STATUS)), where))
    assert found == dict.fromkeys(found, 0)


def test_an_ordinary_user_inside_has_the_ambient_ones() -> None:
    wanted = named("NET_BIND_SERVICE", "SYS_PTRACE")
    sets = {
        "bounding": [*wanted, *named("KILL")],
        "effective": wanted,
        "permitted": [*wanted, *named("KILL")],
        "inheritable": wanted,
        "ambient": wanted,
    }
    text = run(planned(shell(STATUS, capabilities=sets, user=NOBODY)), ROOT)
    ambient = mask("NET_BIND_SERVICE", "SYS_PTRACE")
    assert masks(text) == {
        "Bnd": ambient | mask("KILL"),
        "Eff": ambient,
        "Prm": ambient,
        "Inh": ambient,
        "Amb": ambient,
    }
    assert status(text)["Uid"].split() == ["65534"] * 4


def test_an_ordinary_user_inside_without_ambient_ones_has_none() -> None:
    sets = {name: named("KILL") for name in ("bounding", "effective", "permitted")}
    found = masks(run(planned(shell(STATUS, capabilities=sets, user=NOBODY)), ROOT))
    assert found == {"Bnd": mask("KILL"), "Eff": 0, "Prm": 0, "Inh": 0, "Amb": 0}


def test_all_sets_are_held_before_the_exec_changes_them() -> None:
    # The sets of the process itself, before an exec by uid 0 computes them anew.
    sets = {
        "bounding": named("CHOWN", "KILL", "SETUID", "MAC_ADMIN"),
        "effective": named("CHOWN"),
        "permitted": named("CHOWN", "KILL"),
        "inheritable": named("KILL", "MAC_ADMIN", "SYS_ADMIN"),
        "ambient": named("KILL", "CHOWN"),
    }
    driver = DRIVER.replace("process.execute(plan)", "print(open('/proc/self/status').read())")
    text = run(planned(shell("", capabilities=sets)), ROOT, driver=driver)
    assert masks(text) == {
        "Bnd": mask("CHOWN", "KILL", "SETUID", "MAC_ADMIN"),
        "Eff": mask("CHOWN"),
        "Prm": mask("CHOWN", "KILL"),
        # What isn't in the bounding set can't be had, and isn't worth failing for.
        "Inh": mask("KILL", "MAC_ADMIN"),
        "Amb": mask("KILL"),
    }


@both
def test_a_capability_that_cannot_be_granted_is_told_of_and_left_out(
    where: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "last_capability", lambda: CAPABILITIES["CAP_BPF"])
    sets = {"bounding": named("KILL", "CHECKPOINT_RESTORE")}
    with caplog.at_level(logging.WARNING, "asyncrt.platforms.linux"):
        plan = planned(shell(STATUS, capabilities=sets))
    assert "process.capabilities.bounding[1]" in caplog.text
    assert masks(run(plan, where))["Bnd"] == mask("KILL")


def test_a_capability_that_does_not_exist_is_refused_by_its_path() -> None:
    sets = {"permitted": ["CAP_KILL", "CAP_FLY"]}
    with pytest.raises(SpecInvalid) as caught:
        planned(shell("", capabilities=sets))
    assert caught.value.json_path == "process.capabilities.permitted[1]"
    assert "'CAP_FLY'" in str(caught.value)


def test_the_capabilities_are_those_of_this_kernel() -> None:
    assert machine.last_capability() == max(CAPABILITIES.values())


def filter_of(*rules: tuple[str, int], **more: Any) -> dict[str, Any]:
    syscalls = [
        {"names": names.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": number}
        for names, number in rules
    ]
    return {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls, **more}}


MKDIR = ("mkdir mkdirat", errno.EXFULL)  # an errno that no mkdir has of itself


@both
@pytest.mark.parametrize("no_new_privs", [True, False])
@pytest.mark.parametrize("flags", [[], ["LOG", "TSYNC", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"]])
def test_a_filter_is_in_force_for_the_program(
    where: str, no_new_privs: bool, flags: list[str]
) -> None:
    script = f"mkdir /tmp/never 2>&1; {STATUS}"
    names = [f"SECCOMP_FILTER_FLAG_{each}" for each in flags]
    process = shell(script, noNewPrivileges=no_new_privs, capabilities={})
    text = run(planned(process, filter_of(MKDIR, flags=names)), where)
    assert os.strerror(errno.EXFULL) in text
    found = status(text)
    assert (found["NoNewPrivs"], found["Seccomp"]) == (str(int(no_new_privs)), "2")
    assert masks(text) == dict.fromkeys(masks(text), 0)


def test_a_filter_without_no_new_privs_leaves_an_ordinary_user_no_privilege() -> None:
    # CAP_SYS_ADMIN is kept over the change of user to load it, and must be gone at the exec.
    wanted = named("KILL")
    sets = dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), wanted)
    process = shell(f"mkdir /tmp/never 2>&1; {STATUS}", capabilities=sets, user=NOBODY)
    text = run(planned(process, filter_of(MKDIR)), ROOT)
    assert os.strerror(errno.EXFULL) in text
    assert masks(text) == dict.fromkeys(masks(text), mask("KILL"))


def test_a_filter_may_deny_all_that_led_to_the_exec() -> None:
    # With no_new_privs nothing but execve and what the program does is asked of it.
    denied = "seccomp capset prctl setresuid setresgid chdir stat newfstatat close"
    process = {
        "args": ["true"],
        "noNewPrivileges": True,
        "env": ["PATH=/nowhere:/usr/bin:/bin"],
    }
    allowed = filter_of((f"{denied} mkdir", errno.EPERM))
    allowed["seccomp"]["syscalls"][0]["action"] = "SCMP_ACT_KILL_PROCESS"
    del allowed["seccomp"]["syscalls"][0]["errnoRet"]
    names = allowed["seccomp"]["syscalls"][0]["names"]
    # What the C library's start needs itself.
    allowed["seccomp"]["syscalls"][0]["names"] = [
        each for each in names if each not in {"close", "newfstatat", "prctl"}
    ]
    assert run(planned(process, allowed), ROOT if is_root() else USERNS) == ""


ORDINARY = """
import ctypes, errno, fcntl, multiprocessing, os, socket, subprocess, sys, tempfile, threading
done = []
thread = threading.Thread(target=done.append, args=(1,)); thread.start(); thread.join()
assert subprocess.run(["cat"], input=b"x", stdout=subprocess.PIPE).stdout == b"x"
with tempfile.TemporaryFile() as file:
    file.write(b"x"); file.flush(); os.fsync(file.fileno())
    fcntl.flock(file, fcntl.LOCK_EX)
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
lock = multiprocessing.Lock()
with lock: pass
libc = ctypes.CDLL(None, use_errno=True)
def failing(name, *arguments):
    assert getattr(libc, name)(*arguments) == -1, name
    return errno.errorcode[ctypes.get_errno()]
pid = os.fork()
if pid == 0: os._exit(0)
os.waitpid(pid, 0)
print(
    failing("unshare", 0x10000000), failing("mount", b"x", b"/tmp", b"tmpfs", 0, 0),
    failing("setns", 0, 0), failing("ioctl", 0, 0x5412, b"x"), failing("socket", 40, 1, 0),
    failing("syscall", 99999), failing("reboot", 0), failing("pivot_root", b".", b"."),
)
"""


@both
def test_ordinary_programs_run_under_the_default_profile_and_what_leads_out_fails(
    where: str,
) -> None:
    process = {"args": [sys.executable, "-I", "-S", "-c", ORDINARY], "noNewPrivileges": True}
    found = run(planned(process, {"seccomp": default_seccomp([])}), where)
    assert found.split() == [*["EPERM"] * 4, "EAFNOSUPPORT", "ENOSYS", "EPERM", "EPERM"]


@both
def test_the_policy_and_the_nice_value_are_the_schedulers(where: str) -> None:
    nice = min(os.nice(0) + 7, 19)  # to be nicer than we are needs no privilege
    process = shell("cat /proc/self/stat", scheduler={"policy": "SCHED_BATCH", "nice": nice})
    fields = run(planned(process), where).rsplit(") ", 1)[1].split()
    assert (fields[19 - 3], fields[41 - 3]) == (str(nice), "3")  # proc_pid_stat(5): nice, policy


def test_what_the_kernel_refuses_to_schedule_is_told_by_its_path() -> None:
    # An ordinary user's user namespace gives no right to the machine's time.
    process = shell("", scheduler={"policy": "SCHED_FIFO", "priority": 10})
    report = json.loads(run(planned(process), USERNS))
    assert (report["what"], report["errno"]) == ("process.scheduler", errno.EPERM)


@pytest.mark.needs_program("ionice")
@both
def test_input_and_output_have_their_priority(where: str) -> None:
    process = shell("ionice -p $$", ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 6})
    assert run(planned(process), where).strip() == "best-effort: prio 6"
    process = shell("ionice -p $$", ioPriority={"class": "IOPRIO_CLASS_IDLE"})
    assert run(planned(process), where).strip() == "idle"


@both
def test_the_execution_domain_is_the_personalitys(where: str) -> None:
    process = shell("cat /proc/self/personality")
    for domain, expected in (("LINUX32", 8), ("LINUX", 0)):
        text = run(planned(process, {"personality": {"domain": domain}}), where)
        assert int(text, 16) == expected


@both
def test_the_session_keyring_of_the_launcher_stays_outside(where: str) -> None:
    number = 250 if os.uname().machine == "x86_64" else 219
    show = f"import ctypes; print(ctypes.CDLL(None).syscall({number}, 0, -3, 0), flush=True)"
    process = {"args": [sys.executable, "-c", show]}
    outside, inside = run(planned(process), where, driver=f"{show}\n{DRIVER}").split()
    assert outside != inside
    assert int(inside) > 0


def test_an_execd_process_runs_where_it_may() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    process = shell(f"{STATUS}", execCPUAffinity={"initial": str(cpus[-1]), "final": str(cpus[0])})
    plan = planned(process, joins=True)
    where = ROOT if is_root() else USERNS
    found = status(run(plan, where, initial=True))
    assert found["Cpus_allowed_list"] == str(cpus[0])
    plan["privileges"]["affinity"][1] = []
    found = status(run(plan, where, initial=True))
    assert found["Cpus_allowed_list"] == str(cpus[-1])
    # Of init it says nothing.
    assert planned(process)["privileges"]["affinity"] == [[], []]


def test_without_privileges_the_failing_step_is_named() -> None:
    user = ordinary_user()
    if user is None:
        skip_lacking("an ordinary user to become")
    plan = planned(shell(""))
    done = subprocess.run(
        [sys.executable, "-B", "-c", DRIVER, json.dumps({**plan, "initial": False})],
        env={**os.environ, "PYTHONPATH": REPOSITORY},
        capture_output=True,
        check=False,
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        timeout=50,
    )
    report = json.loads(done.stdout)
    assert (report["what"], report["errno"]) == ("process.capabilities.bounding", errno.EPERM)


LABELS = [
    ("has_apparmor", "apparmorProfile", "apparmor/exec", "exec web"),
    ("has_apparmor", "apparmorProfile", "exec", "exec web"),
    ("has_selinux", "selinuxLabel", "exec", "web"),
]


@pytest.mark.parametrize(("probe", "field", "file", "written"), LABELS)
def test_a_label_is_written_where_the_kernel_takes_it(
    probe: str,
    field: str,
    file: str,
    written: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, probe, lambda: True)
    plan = planned(shell("", **{field: "web"}))["privileges"]
    place = tmp_path / "thread-self" / "attr" / file
    place.parent.mkdir(parents=True)
    place.touch()
    for name in ("_leave_keyring", "_bound"):
        monkeypatch.setattr(launched, name, lambda _: None)
    monkeypatch.setattr(_libc, "syscall", lambda *_: 0)
    proc = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        launched.before_user(plan, proc)
    finally:
        os.close(proc)
    assert place.read_text() == written


def test_a_label_is_refused_with_its_reason_where_the_kernel_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "has_apparmor", lambda: False)
    monkeypatch.setattr(machine, "has_selinux", lambda: False)
    process = shell("", apparmorProfile="web", selinuxLabel="web")
    config = decoded(process, {"mountLabel": "web"}).config
    assert config.process is not None
    _, refused = plan_privileges(config.process, config.linux)
    assert set(refused) == {"process.apparmorProfile", "process.selinuxLabel", "linux.mountLabel"}
    error = SpecUnsupported(platform="linux", fields=refused, reasons=refused)
    assert "process.apparmorProfile (this kernel has no AppArmor" in str(error)
    # Everything is unconfined there.
    assert planned(shell("", apparmorProfile="unconfined"))["privileges"]["apparmor"] is None


def test_what_this_machine_cannot_do_is_refused_by_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notify = {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}
    seccomp = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/x.sock",
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [notify],
    }
    scheduler = {"policy": "SCHED_ISO", "flags": ["SCHED_FLAG_UTIL_CLAMP_MIN"]}
    config = decoded(shell("", scheduler=scheduler), {"seccomp": seccomp}).config
    assert config.process is not None
    monkeypatch.setattr(machine, "has_seccomp_flag", lambda _: False)
    _, refused = plan_privileges(config.process, config.linux)
    assert set(refused) == {
        "process.scheduler.policy",
        "process.scheduler.flags",
        "linux.seccomp.listenerPath",
        "linux.seccomp.syscalls[0].action",
        "linux.seccomp.flags[0]",
    }
    monkeypatch.setattr(machine, "has_seccomp", lambda: False)
    _, refused = plan_privileges(config.process, config.linux)
    assert re.fullmatch("this kernel has no seccomp filters", refused["linux.seccomp"])
