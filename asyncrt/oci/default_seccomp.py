"""The seccomp profile of a sandbox that asks for none: what containerd and podman users know.

Facts, as of containerd 2 and podman 5: which system calls a contained process may make, and which of
them only with a capability. What is refused fails with EPERM if it is older than this profile, else
with ENOSYS, so that programs fall back to what came before (podman's way; with EPERM for all, each
new C library broke).
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_ALLOWED = """
accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64 arm_sync_file_range bind
breakpoint brk cacheflush cachestat capget capset chdir chmod chown chown32 clock_adjtime
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
fgetxattr file_getattr file_setattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area get_tls getcpu getcwd
getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
lchown lchown32 lgetxattr link linkat listen listxattr listxattrat llistxattr _llseek lremovexattr
lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret
mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open
pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6
pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv
recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename
renameat renameat2 restart_syscall riscv_flush_icache riscv_hwprobe rmdir rseq rt_sigaction
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile
sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address set_tls
setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
sigaction sigaltstack signal signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend
socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync
sync_file_range sync_file_range2 syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64
utimes vfork vmsplice wait4 waitid waitpid write writev
"""

# clone3 keeps its flags behind a pointer, where no filter can look: it doesn't exist then.
_WITH_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount listns "
    "lookup_dcookie mount mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl "
    "quotactl_fd setdomainname sethostname setns statmount syslog umount umount2 unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

_NEVER = """
_sysctl add_key afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle
io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl lock
lsm_get_self_attr lsm_list_modules lsm_set_self_attr migrate_pages move_pages mpx nfsservctl nice
oldfstat oldlstat oldolduname oldstat olduname pciconfig_iobase pciconfig_read pciconfig_write
pivot_root prof profil putpmsg query_module readdir request_key security sgetmask ssetmask stty
swapoff swapon sysfs tuxcall ulimit uprobe uselib userfaultfd usr26 usr32 ustat vm86 vm86old
vserver
"""

_NAMESPACE_FLAGS = 0x7E020000  # every CLONE_NEW* that clone(2) takes
_LOW = 0xFFFFFFFF  # the kernel takes an int: the high half of the register is nobody's

# linux/personality.h: LINUX and LINUX32, each with UNAME26 as well, and the question which it is.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# sys/socket.h: all families below 48 but AF_VSOCK (40), which leads to the machine's own host.
_FAMILIES = ((0xFFFFFFE0, 0), (0xFFFFFFF8, 32), (_LOW, 41), (0xFFFFFFFE, 42), (0xFFFFFFFC, 44))
_AF_VSOCK = 40

# What types on a terminal as if it were its user (CVE-2017-5226, CVE-2023-1523). Such a rule counts
# beside the one that allows ioctl; libseccomp drops it (asyncrt.platforms.linux.seccomp).
_TYPING = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
}


def default_seccomp(capabilities: Collection[str]) -> dict[str, object]:
    """The seccomp section for a process with these capabilities (its bounding set)."""
    granted = [names for name, names in _WITH_CAPABILITY.items() if name in capabilities]
    allowed = {*_ALLOWED.split(), *" ".join(granted).split()}
    known = {*_NEVER.split(), *" ".join(_WITH_CAPABILITY.values()).split()}
    refused = known - allowed - {"clone", "clone3"}
    profile: dict[str, object] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.ENOSYS,
    }
    architectures = _ARCHITECTURES.get(os.uname().machine)
    if architectures is not None:
        profile["architectures"] = list(architectures)
    syscalls = [
        _rule(sorted(allowed)),
        _rule(["personality"], *((0, _LOW, each) for each in _PERSONALITIES)),
        _rule(["socket"], *((0, mask, value) for mask, value in _FAMILIES)),
        _rule(["socket"], (0, _LOW, _AF_VSOCK), errno_ret=errno.EAFNOSUPPORT),
        _rule(["ioctl"], *((1, _LOW, each) for each in _TYPING), errno_ret=errno.EPERM),
        _rule(sorted(refused), errno_ret=errno.EPERM),
    ]
    if "clone" not in allowed:
        syscalls.insert(1, _rule(["clone"], (0, _NAMESPACE_FLAGS, 0)))
    profile["syscalls"] = syscalls
    return profile


def _rule(
    names: list[str], *masked: tuple[int, int, int], errno_ret: int | None = None
) -> dict[str, object]:
    """`masked`: argument, mask, and what the rest has to be; any one of them is enough."""
    rule: dict[str, object] = {"names": names, "action": "SCMP_ACT_ALLOW"}
    if errno_ret is not None:
        rule.update(action="SCMP_ACT_ERRNO", errnoRet=errno_ret)
    if masked:
        rule["args"] = [
            {"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}
            for index, mask, value in masked
        ]
    return rule
