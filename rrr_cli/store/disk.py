"""What a disk may refuse, and what isn't followed: every file of a run is written through this module.

A full or read-only disk is one line. A file system without flock, links or flushing of folders is worked with. Writes
whole files, or none. Refuses a symbolic link in the place of a folder of the run.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rrr_cli.errors import RrrError
from rrr_cli.places import check_local

TEMP_MARK = ".tmp-"
FULL = (errno.ENOSPC, errno.EDQUOT)
#: What a disk, a network file system, or the account's rights and limits raise: no mistake of ours.
FAILING = (
    *FULL, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE, errno.EACCES, errno.EPERM, errno.EBUSY, errno.EMFILE,
    errno.ENFILE, errno.ENAMETOOLONG, errno.ELOOP, errno.EREMOTEIO, errno.ENOTCONN)
#: What a file system answers that doesn't have a call: NFS, Lustre, FUSE, SMB, each its own.
LACKING = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
UNFLUSHED = (*LACKING, errno.EBADF, errno.EACCES, errno.EPERM)
UNLINKED = (*LACKING, errno.EPERM, errno.EACCES, errno.EMLINK)

_warned = False


@contextmanager
def writing(path: Path, size: int | None = None, cure: str = "") -> Iterator[None]:
    """Turns an OSError of the block, which writes `path` of `size` bytes, into RrrError (exit 3) in one line."""
    try:
        yield
    except OSError as error:
        raise refusal(path, error, size, cure) from error


def refusal(path: Path, error: OSError, size: int | None = None, cure: str = "") -> RrrError:
    """Why `path` can't be written, in one line."""
    if error.errno in FULL:
        needed = f"needs {size:,} bytes and" if size is not None else "needs more bytes than there are:"
        return RrrError(
            f"the disk is full: {path} {needed} {free_bytes(path):,} are free; nothing was lost. "
            f"Make room and type the same command again"
        )
    return RrrError(f"{path} can't be written: {error.strerror or error}{cure}")


def free_bytes(path: Path) -> int:
    """The free bytes of the disk that `path` is on, or will be on."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    space = os.statvfs(there)
    return space.f_bavail * space.f_frsize


def inside(run: Path, *names: str) -> Path:
    """The path run/name/name…. Raises RrrError (exit 3): one of them is a symbolic link, which may lead out of the run.

    The run's own folder may be one.
    """
    check_local(run, "--run")
    place = run
    for name in names:
        place = place / name
        if place.is_symlink():
            raise RrrError(f"{place} is a symbolic link to {os.readlink(place)}, and rrr writes inside the folder of "
                           "the run only: put a folder in its place, or name another --run")
    return place


def create(path: Path, data: bytes) -> None:
    """A new file with `data`, flushed to the disk. Raises OSError: something is at `path`, a link among others."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def temporary(folder: Path, name: str) -> Path:
    """A path for a file that isn't whole yet. It doesn't end in .parquet, and no other writer has it."""
    return folder / f"{name}{TEMP_MARK}{os.getpid()}-{secrets.token_hex(4)}"


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`: complete or not at all, and safe from a power cut once this returns.

    Raises RrrError (exit 3): disk full, with the bytes needed and free.
    """
    unfinished = temporary(path.parent, path.name)
    with writing(path, len(data)):
        try:
            create(unfinished, data)
            os.replace(unfinished, path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        fsync(path.parent)


def write_output(path: Path, data: bytes) -> None:
    """`write_atomically` for a path that a user types: a link is followed, and a device or a pipe, such as /dev/stdout,
    is written to and stays what it is. Raises RrrError (exit 3)."""
    if path.exists() and not path.is_file() and not path.is_dir():
        with writing(path), path.open("wb") as file:
            file.write(data)
        return
    write_atomically(Path(os.path.realpath(path)), data)


def publish(unfinished: Path, target: Path) -> bool:
    """Give a whole file its name; False where another writer was there first. The file under `unfinished` is then gone.

    A link never replaces what is at its name. Where links can't be made, a file that only one writer can create stands
    for the name meanwhile. Raises OSError.
    """
    try:
        os.link(unfinished, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in UNLINKED:
            raise
        return _rename(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def _rename(unfinished: Path, target: Path) -> bool:
    taken = unfinished.with_name(f"{target.name}{TEMP_MARK}taken")
    try:
        os.close(os.open(taken, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    except FileExistsError:
        return False
    try:
        if os.path.lexists(target):
            return False
        os.rename(unfinished, target)
        return True
    finally:
        taken.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Flush a file, or a folder's entries (a rename, a removal), to the disk, so that they survive a power cut.

    Some file systems can't flush a folder, and need no flushing of it. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNFLUSHED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def lock(path: Path, folder: Path) -> int:
    """The descriptor of the lock file `path` of `folder`, locked until it is closed.

    Works without a lock, and says so once, where the file system has none. Raises RrrError (exit 3): another process
    has it; OSError.
    """
    foreign = RrrError(f"{path} is not a file of its own: delete it and type the same command again")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise foreign if error.errno in (errno.EISDIR, errno.ENXIO) else error from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:  # writing into it would change another file
            raise foreign
        _flock(descriptor, folder)
        with suppress(OSError):  # a full disk: whose lock it is, is for people
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}".encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _flock(descriptor: int, folder: Path) -> None:
    global _warned
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        raise RrrError(
            f"{folder} is being written by {holder}; wait for it to end, or name another --run"
        ) from error
    except OSError as error:
        if error.errno not in LACKING:
            raise
        if not _warned:
            _warned = True
            print(f"rrr: the file system of {folder} has no locks ({error.strerror}): nothing is lost where two "
                  "commands write there at once, but work is done twice", file=sys.stderr)
