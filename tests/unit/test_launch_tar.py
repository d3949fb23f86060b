"""Headers of tar archives, held against the standard library's reader."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.launch import tar

_NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name)
_PARTS = st.lists(_NAMES.filter(lambda name: b"/" not in name), min_size=1, max_size=3)


def _only_member(data: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(data + tar.END), encoding="utf-8") as opened:
        (found,) = opened
        return found


@given(
    name=_PARTS.map(b"/".join).filter(lambda name: not name.endswith(b"/")),
    link=_NAMES,
    mode=st.integers(0, 0o7777),
    ids=st.tuples(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2)),
    mtime_ns=st.integers(-(2**62), 2**62),
)
def test_whatever_a_member_is_it_is_read_as_it_was(
    name: bytes, link: bytes, mode: int, ids: tuple[int, int], mtime_ns: int
) -> None:
    made = tar.header(
        name, tar.SYMLINK, mode=mode, uid=ids[0], gid=ids[1], mtime_ns=mtime_ns, link=link
    )
    assert len(made) % tar.BLOCK == 0
    found = _only_member(made)
    assert found.name.encode(errors="surrogateescape") == name
    assert found.linkname.encode(errors="surrogateescape") == link
    assert (found.mode, found.uid, found.gid) == (mode, *ids)
    assert abs(found.mtime * 10**9 - mtime_ns) <= max(1000, abs(mtime_ns) / 2**40)


def test_a_size_beyond_the_field_is_in_a_record() -> None:
    made = tar.header(b"big", tar.FILE, size=8**11)
    found = tarfile.TarInfo.frombuf(made[-512:], "utf-8", "strict")
    assert found.size == 0
    assert b"size=8589934592\n" in made


@pytest.mark.parametrize("length", [*range(85, 110), 985, 986, 987, 9984, 9985])
def test_the_length_of_a_record_counts_its_own_digits(length: int) -> None:
    found = _only_member(tar.header(b"f", tar.FILE, records=[(b"key", b"v" * length)]))
    assert found.pax_headers["key"] == "v" * length


def test_a_file_with_holes_is_read_by_who_knows_of_them(tmp_path: Path) -> None:
    extents = [4096, 512, 1 << 20, 1024, (1 << 21) - 3, 3]
    name, records = tar.sparse_records(b"holes", 1 << 21)
    map = tar.sparse_map(extents)
    made = tar.header(name, tar.FILE, mode=0o600, size=len(map) + 1539, records=records)
    data = made + map + b"a" * 512 + b"b" * 1024 + b"end" + tar.padding(3) + tar.END
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        (found,) = opened
        assert (found.name, found.size) == ("holes", 1 << 21)
        file = opened.extractfile(found)
        assert file is not None
        expected = bytearray(1 << 21)
        expected[4096 : 4096 + 512] = b"a" * 512
        expected[1 << 20 : (1 << 20) + 1024] = b"b" * 1024
        expected[-3:] = b"end"
        assert file.read() == expected
    program = shutil.which("tar")
    if program is not None:
        done = subprocess.run(
            [program, "x", "-C", str(tmp_path)], input=data, capture_output=True, check=True
        )
        assert not done.stderr
        assert (tmp_path / "holes").read_bytes() == expected


def test_a_members_kind_and_device_are_its_own() -> None:
    kinds: dict[bytes, Any] = {
        tar.CHARACTER: tarfile.TarInfo.ischr,
        tar.BLOCK_DEVICE: tarfile.TarInfo.isblk,
        tar.FIFO: tarfile.TarInfo.isfifo,
        tar.DIRECTORY: tarfile.TarInfo.isdir,
        tar.LINK: tarfile.TarInfo.islnk,
    }
    for kind, is_so in kinds.items():
        found = _only_member(tar.header(b"x", kind, device=(2**12 - 1, 2**20 - 1)))
        assert is_so(found)
        if kind in {tar.CHARACTER, tar.BLOCK_DEVICE}:
            assert (found.devmajor, found.devminor) == (2**12 - 1, 2**20 - 1)
