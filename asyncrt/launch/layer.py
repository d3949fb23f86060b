"""A container's written layer as a stream: a tar archive by the conventions of OCI's image layers.

Runs in a process of its own for each export. What is walked through was written by the container,
which may be writing on: names, links, devices, pipes, holes and depth are its choice. So a directory
is opened by its path below the layer's root, on which no link is followed and no mount is crossed;
nothing but regular files is ever opened beside; and what is kept in memory is bounded, whatever is
there. What a layer can't hold (sockets, names that mean a deletion, paths that are too long) is left
out and told.

The stream is framed, so that an end is told from a death: each piece has its length before it (four
bytes, big endian), an empty one comes last, then what there is to tell, as JSON.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import stat

from asyncrt.launch import mounts, tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Format = tuple[tuple[str, ...], bool]

_RESOLVE = 0x01 | mounts.RESOLVE_NO_SYMLINKS | mounts.RESOLVE_BENEATH  # NO_XDEV, see openat2(2)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# A name may have become a pipe's or a device's since the look at it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_PIECE = 1 << 18
_LONGEST_PATH = 4095  # bytes of what anybody can name (PATH_MAX)
_MOST_LINKS = 1 << 16  # files with several names that are remembered at a time
_MOST_XATTRS = 1 << 19  # bytes of one file's; who reads archives takes some 1 MiB of records
_TOLD = 10

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_OPAQUE_DEVICE = ".wh..opq"
_XATTRS = ("security.capability", "system.posix_acl_access", "system.posix_acl_default")
_KINDS = {
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}


class Pieces:
    """The framed stream, written to a descriptor; a write waits for whoever reads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pending = bytearray()

    def add(self, data: bytes) -> None:
        """Send it, small ones together."""
        self._pending += data
        if len(self._pending) >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Send what is kept."""
        if self._pending:
            self._write(len(self._pending).to_bytes(4, "big") + self._pending)
            self._pending.clear()

    def end(self, report: dict[str, object]) -> None:
        """The empty piece, and what there is to tell."""
        self.flush()
        self._write(bytes(4) + json.dumps(report).encode())

    def _write(self, data: bytes | bytearray) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]


def export(out: int, root: int, format: Format, maps: Sequence[Sequence[Sequence[int]]]) -> None:
    """Write the layer below an opened directory to a descriptor.

    `format` says what the overlay's own attributes begin with, and whether it keeps notes in files
    called `.wh.…` too. `maps` are the lines of uids and gids by which ids of ours become the
    container's, none where they are so already.
    """
    pieces = Pieces(out)
    walk = _Walk(pieces, root, format, maps)
    try:
        walk.go()
        pieces.add(tar.END)
    except OSError as error:
        pieces.end({"failed": error.errno, "path": walk.path})
    else:
        pieces.end({"left_out": walk.left_out, "count": walk.left_out_count})


def refuse(out: int, number: int) -> None:
    """Say there that nothing comes, and why: the errno of a fork, say."""
    Pieces(out).end({"failed": number, "path": "its gofer can't fork"})


class _Walk:
    """One pass through the layer, each directory before what is in it."""

    def __init__(
        self, pieces: Pieces, root: int, format: Format, maps: Sequence[Sequence[Sequence[int]]]
    ) -> None:
        self.path = ""  # where it is
        self.left_out: list[list[str]] = []  # path and reason of the first few
        self.left_out_count = 0
        self._pieces = pieces
        self._root = root
        self._marks, self._by_name = format
        self._maps = maps
        self._links: dict[int, tuple[str, int]] = {}  # by inode: the first name, and names to come
        # Directories, and of each the names of those in it that are still to come, each after a NUL:
        # a name as an object of its own would take some ten times the bytes.
        self._pending: list[tuple[str, bytearray]] = [("", bytearray(b"\0."))]

    def go(self) -> None:
        while self._pending:
            above, names = self._pending[-1]
            if not names:
                self._pending.pop()
                continue
            cut = names.rindex(b"\0")
            name = os.fsdecode(bytes(names[cut + 1 :]))
            del names[cut:]
            self._directory(f"{above}{name}/")

    def _leave_out(self, path: str, why: str) -> None:
        self.left_out_count += 1
        if len(self.left_out) < _TOLD:
            self.left_out.append([path, why])

    def _directory(self, path: str) -> None:
        self.path = path
        try:
            fd = mounts.resolve(self._root, path, _DIRECTORY, _RESOLVE)
        except OSError as error:
            # It went, or is something else by now; or the layer is deeper than a path is long.
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                self._leave_out(path, os.strerror(error.errno or 0))
            return
        try:
            below = "" if path == "./" else path
            self._add(path, os.fstat(fd), tar.DIRECTORY, fd=fd)
            if self._is_opaque(fd):
                self._add_whiteout(below + _OPAQUE)
            names = bytearray()
            with os.scandir(fd) as entries:
                for entry in entries:
                    if self._entry(fd, below, entry.name):
                        names += b"\0" + os.fsencode(entry.name)
            self._pending.append((below, names))
        finally:
            os.close(fd)

    def _entry(self, directory: int, below: str, name: str) -> bool:
        """Write what has that name, unless it is a directory: True, it comes later."""
        path = self.path = below + name
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        kind = stat.S_IFMT(found.st_mode)
        if self._by_name and name in {_OPAQUE, _OPAQUE_DEVICE}:
            return False  # as its directory was told to be
        if kind == stat.S_IFCHR and found.st_rdev == 0:
            self._add_whiteout(f"{below}{_WHITEOUT}{name}")
        elif self._by_name and kind == stat.S_IFREG and name.startswith(_WHITEOUT):
            self._add_whiteout(path)
        elif name.startswith(_WHITEOUT):
            self._leave_out(path, "its name would mean a deletion")
        elif len(os.fsencode(path)) > _LONGEST_PATH:
            self._leave_out(path[:80] + "…", "its path is too long")
        elif kind == stat.S_IFDIR:
            return True
        elif kind == stat.S_IFSOCK:
            self._leave_out(path, "a socket")
        elif kind == stat.S_IFREG:
            self._file(directory, name, path)
        elif kind in _KINDS:
            self._special(directory, name, path, found)
        return False

    def _special(self, directory: int, name: str, path: str, found: os.stat_result) -> None:
        if self._is_known(path, found):
            return
        target = ""
        if stat.S_ISLNK(found.st_mode):
            try:
                target = os.readlink(name, dir_fd=directory)
            except OSError:
                return  # it went, or is something else by now
        self._add(path, found, _KINDS[stat.S_IFMT(found.st_mode)], link=target)

    def _file(self, directory: int, name: str, path: str) -> None:
        try:
            fd = os.open(name, _FILE, dir_fd=directory)
        except FileNotFoundError:
            return
        except OSError as error:
            self._leave_out(path, os.strerror(error.errno or 0))
            return
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or self._is_known(path, found):
                return
            size = found.st_size
            if found.st_blocks * 512 >= size:
                self._add(path, found, tar.FILE, fd=fd, size=size)
                self._copy(fd, 0, size)
                self._pieces.add(tar.padding(size))
            else:
                self._sparse(path, found, fd)
        finally:
            os.close(fd)

    def _sparse(self, path: str, found: os.stat_result, fd: int) -> None:
        size = found.st_size
        extents = array.array("Q")
        for begin, end in _extents(fd, size):
            extents.append(begin)
            extents.append(end - begin)
        stored = sum(extents[1::2])
        if not extents or extents[-2] + extents[-1] < size:
            extents.extend((size, 0))
        name, records = tar.sparse_records(os.fsencode(path), size)
        map = tar.sparse_map(extents)
        self._add(path, found, tar.FILE, fd=fd, name=name, size=len(map) + stored, records=records)
        self._pieces.add(map)
        for index in range(0, len(extents), 2):
            self._copy(fd, extents[index], extents[index + 1])
        self._pieces.add(tar.padding(stored))

    def _copy(self, fd: int, offset: int, size: int) -> None:
        """Exactly so many bytes, whatever becomes of the file: the header has promised them."""
        end = offset + size
        while offset < end:
            data = os.pread(fd, min(_PIECE, end - offset), offset)
            if not data:  # somebody cut it off
                data = bytes(min(_PIECE, end - offset))
            self._pieces.add(data)
            offset += len(data)

    def _is_known(self, path: str, found: os.stat_result) -> bool:
        """Whether it stands in the archive under another name; then it is written as a link to that.

        Of too many at a time some are written again.
        """
        if found.st_nlink < 2:
            return False
        first, left = self._links.get(found.st_ino, ("", 0))
        if first:
            self._add(path, found, tar.LINK, link=first)
        elif len(self._links) < _MOST_LINKS:
            first, left = path, found.st_nlink
        if left > 1:
            self._links[found.st_ino] = first, left - 1
        else:
            self._links.pop(found.st_ino, None)
        return first not in {"", path}

    def _add(
        self,
        path: str,
        found: os.stat_result,
        kind: bytes,
        *,
        fd: int = -1,
        name: bytes = b"",
        size: int = 0,
        link: str = "",
        records: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        uid, gid = found.st_uid, found.st_gid
        if self._maps:
            uid, gid = _inside(uid, self._maps[0]), _inside(gid, self._maps[1])
        attributes = [] if fd < 0 else self._xattrs(path, fd)
        self._pieces.add(
            tar.header(
                name or os.fsencode(path),
                kind,
                mode=stat.S_IMODE(found.st_mode),
                uid=uid,
                gid=gid,
                size=size,
                mtime_ns=found.st_mtime_ns,
                link=os.fsencode(link),
                device=(os.major(found.st_rdev), os.minor(found.st_rdev)),
                records=[*records, *attributes],
            )
        )

    def _add_whiteout(self, path: str) -> None:
        self._pieces.add(tar.header(os.fsencode(path), tar.FILE, mode=0o600))

    def _is_opaque(self, fd: int) -> bool:
        for each in self._marks:
            with contextlib.suppress(OSError):
                if os.getxattr(fd, f"{each}opaque") == b"y":
                    return True
        if self._by_name:
            with contextlib.suppress(OSError):
                os.stat(_OPAQUE, dir_fd=fd, follow_symlinks=False)
                return True
        return False

    def _xattrs(self, path: str, fd: int) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        room = _MOST_XATTRS
        with contextlib.suppress(OSError):  # a file system without any
            for name in os.listxattr(fd):
                if name.startswith(self._marks):
                    continue
                if name in _XATTRS or name.startswith("user."):
                    value = os.getxattr(fd, name)
                    room -= len(name) + len(value)
                    if room < 0:
                        self._leave_out(path, "some of its extended attributes")
                        break
                    found.append((tar.xattr_key(name), value))
        return found


def _extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data: pairs of begin and end, both in whole blocks, as readers expect them."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
            begin, end = (
                _floor(begin),
                min(_floor(os.lseek(fd, begin, os.SEEK_HOLE) - 1) + tar.BLOCK, size),
            )
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data from there on
                return
            raise
        if begin >= end:
            return
        yield begin, end


def _floor(offset: int) -> int:
    return offset - offset % tar.BLOCK


def _inside(id: int, lines: Sequence[Sequence[int]]) -> int:
    for inside, outside, size in lines:
        if outside <= id < outside + size:
            return inside + id - outside
    return id
