"""A program for inside a sandbox: one way out after the other is tried, and those that lead are told.

None of them does harm where it succeeds: what is written is what was there. It runs from its text, in an interpreter without anything of ours. What it is to know of the host, to
see that it is out, comes as JSON in its first argument.
"""

from __future__ import annotations

PROGRAM = r"""
import ctypes, fcntl, json, os, struct, sys
host = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"

def call(name, *args):
    result = getattr(libc, name)(*args)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result

def syscall(x86, other, *args):
    libc.syscall.restype = ctypes.c_long
    return call("syscall", ctypes.c_long(x86 if X86 else other), *args)

def can_open(path):
    os.close(os.open(path, os.O_WRONLY))
    return True

def write(path, text=None):
    # Without a text, what is there already.
    fd = os.open(path, os.O_WRONLY)
    try:
        if text is None:
            with open(path) as file:
                text = file.read()
        os.write(fd, text.encode() or b"\n")
    finally:
        os.close(fd)
    return True

def processes():
    return [name for name in os.listdir("/proc") if name.isdigit()]

def is_host(path):
    found = os.stat(path)
    return [found.st_dev, found.st_ino] in host["directories"]

def descriptors():
    # First: those that come after leave some of their own.
    fds = [int(name) for name in os.listdir("/proc/self/fd")]
    for fd in fds:
        try:
            os.fstat(fd)
        except OSError:
            continue  # of the listing itself
        if fd > 2:
            return True

def double_chroot():
    # The classic: a working directory above the new root, then up and up.
    if os.fork() == 0:
        try:
            os.mkdir("/tmp/jail")
            os.chroot("/tmp/jail")
            for _ in range(50):
                os.chdir("..")
            os.chroot(".")
            os._exit(77 if is_host(".") or os.path.exists(host["only"]) else 0)
        except OSError:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.wait()[1]) == 77

def parent_of_the_root():
    return is_host("/..") or is_host("/proc/self/root/..") or is_host("/proc/self/cwd/../../../..")

def roots_of_processes():
    return any(is_host(f"/proc/{pid}/root") or is_host(f"/proc/{pid}/cwd") for pid in processes())

def namespaces_of_processes():
    # Those of the host, by which a setns would lead back.
    return any(
        os.stat(f"/proc/{pid}/ns/{name}").st_ino == inode
        for pid in processes() for name, inode in host["namespaces"].items()
    )

def parents_of_namespaces():
    for name in ("pid", "user"):
        if name in host["namespaces"]:
            fd = os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
            parent = fcntl.ioctl(fd, 0xB702)  # NS_GET_PARENT
            call("setns", parent, 0)
            return True

def setns_of_a_parent():
    call("setns", os.pidfd_open(os.getppid()) if os.getppid() else -1, 0x20000)
    return is_host("/")

def foreign_processes():
    os.kill(host["pid"], 0)
    return True

def handle_of_the_hosts_root():
    # "Shocker": a file handle needs no path (open_by_handle_at(2)).
    if not host["handle"]:
        return False
    raw = bytes.fromhex(host["handle"])
    fd = os.open("/", os.O_RDONLY)
    buffer = ctypes.create_string_buffer(raw, len(raw))
    found = os.stat(call("open_by_handle_at", fd, buffer, os.O_RDONLY))
    return [found.st_dev, found.st_ino] in host["directories"]

def device_node():
    os.mknod("/tmp/disk", 0o60666, os.makedev(*host["disk"]))
    os.close(os.open("/tmp/disk", os.O_RDONLY))
    return True

def device_node_of_memory():
    os.mknod("/tmp/mem", 0o20666, os.makedev(1, 1))
    os.close(os.open("/tmp/mem", os.O_RDONLY))
    return True

def unmapped_owner():
    if host["unmapped"] is None:
        return False
    open("/tmp/owned", "w").close()
    os.chown("/tmp/owned", host["unmapped"], -1)
    return True

def unmapped_user():
    if host["unmapped"] is None:
        return False
    if os.fork() == 0:
        try:
            os.setresuid(*[host["unmapped"]] * 3)
        except OSError:
            os._exit(0)
        os._exit(77)
    return os.waitstatus_to_exitcode(os.wait()[1]) == 77

def core_pattern():
    return write("/proc/sys/kernel/core_pattern")

def file_handles():
    return write("/proc/sys/fs/file-max")

def modprobe():
    return write("/proc/sys/kernel/modprobe")

def sysrq():
    return can_open("/proc/sysrq-trigger")

def sysrq_mask():
    return write("/proc/sys/kernel/sysrq")

def parameters_by_another_proc():
    os.makedirs("/tmp/proc", exist_ok=True)
    call("mount", b"proc", b"/tmp/proc", b"proc", 0, None)
    return write("/tmp/proc/sys/kernel/core_pattern")

def parameters_by_a_remount():
    call("mount", None, b"/proc/sys", None, 0x1020, None)  # MS_REMOUNT | MS_BIND
    return write("/proc/sys/kernel/core_pattern")

def release_agent():
    # CVE-2022-0492: what it names is run by the host's kernel, as the host's root.
    os.makedirs("/tmp/cgroup", exist_ok=True)
    libc.unshare(0x2000000)
    for controller in (b"rdma", b"misc", b"net_prio", b"none,name=systemd", b"memory", b"pids"):
        if libc.mount(b"cgroup", b"/tmp/cgroup", b"cgroup", 0, controller) == 0:
            break
    done = False
    for top, _, names in [*os.walk("/tmp/cgroup"), *os.walk("/sys/fs/cgroup")]:
        for name in {"release_agent"} & {*names}:
            try:
                done |= write(f"{top}/{name}")
            except OSError:
                pass
    return done

def read_only_files():
    return can_open("/usr/bin/env")

def writable_root():
    return can_open("/etc/passwd")

def remounted_files():
    call("mount", None, b"/usr", None, 0x1020, None)
    return can_open("/usr/bin/env")

def kernel_memory():
    with open("/proc/kcore", "rb", buffering=0) as file:
        return bool(file.read(1))

def keys_of_the_kernel():
    with open("/proc/keys") as file:
        return bool(file.read())

def module():
    syscall(175, 105, b"x", ctypes.c_long(1), b"")  # init_module
    return True

def kexec():
    syscall(246, 104, 0, 0, 0, 0)
    return True

def oom_score():
    return write("/proc/self/oom_score_adj", "-1000")

ATTEMPTS = [each for each in list(globals().values()) if getattr(each, "__code__", None)]
HELPERS = {call, syscall, can_open, write, processes, is_host}
for attempt in ATTEMPTS:
    if attempt not in HELPERS:
        try:
            if attempt():
                print(attempt.__name__, flush=True)
        except OSError:
            pass
print("all")
"""
