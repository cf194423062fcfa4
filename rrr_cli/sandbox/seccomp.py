"""The system calls that model-written Python may make, as a BPF program for `prctl(PR_SET_SECCOMP)`.

The list has what a computation needs; every other call fails with EPERM: no socket, no new process, no other program,
no signal, no ptrace, mount, namespace, shared memory or io_uring. Threads are allowed. The filter is used on every
rung of the ladder except the unsafe one. Reads and writes nothing.
"""

from __future__ import annotations

import platform
import struct

#: machine -> (AUDIT_ARCH, the allowed calls), from the kernel's tables (asm/unistd_64.h, asm-generic/unistd.h).
ARCHITECTURES = {
    "x86_64": (0xC000003E, {
        "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8,
        "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
        "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21,
        "pipe": 22, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33,
        "nanosleep": 35, "alarm": 37, "setitimer": 38, "getpid": 39, "clone": 56, "exit": 60, "uname": 63,
        "fcntl": 72, "ftruncate": 77, "getdents": 78, "getcwd": 79, "chdir": 80, "rename": 82, "mkdir": 83,
        "rmdir": 84, "unlink": 87, "readlink": 89, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "times": 100,
        "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "sigaltstack": 131,
        "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "getdents64": 217, "clock_gettime": 228,
        "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "openat": 257, "mkdirat": 258,
        "newfstatat": 262, "unlinkat": 263, "renameat": 264, "readlinkat": 267, "faccessat": 269, "pselect6": 270,
        "ppoll": 271, "set_robust_list": 273, "dup3": 292, "pipe2": 293, "getrandom": 318, "statx": 332, "rseq": 334,
        "faccessat2": 439, "clone3": 435,
    }),
    "aarch64": (0xC00000B7, {
        "getcwd": 17, "dup": 23, "dup3": 24, "fcntl": 25, "ioctl": 29, "mkdirat": 34, "unlinkat": 35, "renameat": 38,
        "ftruncate": 46, "faccessat": 48, "chdir": 49, "openat": 56, "close": 57, "pipe2": 59, "getdents64": 61,
        "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68,
        "pselect6": 72, "ppoll": 73, "readlinkat": 78, "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94,
        "futex": 98, "set_robust_list": 99, "nanosleep": 101, "setitimer": 103, "clock_gettime": 113,
        "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124, "sigaltstack": 132,
        "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160, "getrusage": 165,
        "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176,
        "getegid": 177, "gettid": 178, "sysinfo": 179, "brk": 214, "munmap": 215, "mremap": 216, "clone": 220,
        "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278, "statx": 291, "rseq": 293, "clone3": 435,
        "faccessat2": 439, "renameat2": 276,
    }),
}
# Other values of these could signal a process (F_SETOWN, FIOSETOWN) or type into a terminal (TIOCSTI).
FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
IOCTL_REQUESTS = (0x5401, 0x5413, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONCLEX, FIOCLEX
CLONE_THREAD = 0x00010000
EPERM, ENOSYS = 1, 38
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, RETURN, JUMP_EQUAL, JUMP_SET = 0x20, 0x06, 0x15, 0x45  # BPF_LD|W|ABS, BPF_RET|K, BPF_JMP|JEQ|K, BPF_JMP|JSET|K
NUMBER, ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; an argument has 8 bytes, the low half first


def program(machine: str | None = None) -> bytes | None:
    """The filter as an array of struct sock_filter, or None for a machine that isn't in ARCHITECTURES."""
    if (machine or platform.machine()) not in ARCHITECTURES:
        return None
    arch, calls = ARCHITECTURES[machine or platform.machine()]
    code = [_op(LOAD, ARCH), _op(JUMP_EQUAL, arch, 1, 0), _op(RETURN, KILL), _op(LOAD, NUMBER)]
    for name, number in calls.items():
        if name == "fcntl":
            body = _argument_is_one_of(1, FCNTL_COMMANDS)
        elif name == "ioctl":
            body = _argument_is_one_of(1, IOCTL_REQUESTS)
        elif name == "clone":  # a thread, never a process
            body = [_op(LOAD, ARGUMENTS), _op(JUMP_SET, CLONE_THREAD, 0, 1), _op(RETURN, ALLOW), _refuse(EPERM)]
        elif name == "clone3":  # its flags are in memory, which a filter can't read; libc falls back to clone
            body = [_refuse(ENOSYS)]
        else:
            body = [_op(RETURN, ALLOW)]
        code += [_op(JUMP_EQUAL, number, 0, len(body)), *body]
    return b"".join([*code, _refuse(EPERM)])


def _argument_is_one_of(index: int, values: tuple[int, ...]) -> list[bytes]:
    code = [_op(LOAD, ARGUMENTS + 8 * index)]
    for value in values:
        code += [_op(JUMP_EQUAL, value, 0, 1), _op(RETURN, ALLOW)]
    return [*code, _refuse(EPERM)]


def _refuse(error: int) -> bytes:
    return _op(RETURN, ERRNO | error)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
