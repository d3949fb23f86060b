"""Frames: whole messages with their descriptors out of any pieces, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.launch import frames
from tests.helpers.containers import frame

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
keys = st.text(max_size=5).filter(lambda key: key not in {"v", "fds"})
messages = st.dictionaries(keys, json_values, max_size=3)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        yield one, two


@given(st.lists(messages, max_size=4), st.integers(1, 64))
def test_messages_come_out_as_they_went_in_whatever_the_pieces(
    sent: list[dict[str, object]], size: int
) -> None:
    stream = b"".join(frames.encode(each) for each in sent)
    decoder = frames.Decoder()
    received = []
    for start in range(0, len(stream), size):
        decoder.feed(stream[start : start + size], [])
        while (found := decoder.pop()) is not None:
            received.append(found[0])
    assert received == [{"v": frames.VERSION, **each} for each in sent]


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_a_bad_frame_or_not_enough(data: bytes) -> None:
    decoder = frames.Decoder()
    decoder.feed(data, [])
    try:
        while (found := decoder.pop()) is not None:
            assert isinstance(found[0], dict)
    except frames.BadFrame:
        pass


@pytest.mark.parametrize(
    "bad",
    [
        (frames.MAX_FRAME + 1).to_bytes(4, "big"),
        frame([]),
        frame("text"),
        frame({"fds": 1}),
        frame({"fds": -1}),
        frame({"fds": 1.0}),
        frame({"fds": None}),
        b"\0\0\0\1{",
        (100_000).to_bytes(4, "big") + b'{"":' * 25_000,
    ],
    ids=lambda each: repr(each[:16]),
)
def test_what_is_no_message_is_a_bad_frame(bad: bytes) -> None:
    decoder = frames.Decoder()
    decoder.feed(bad, [])
    with pytest.raises(frames.BadFrame):
        decoder.pop()


def test_names_that_are_no_text_survive(pair: tuple[socket.socket, socket.socket]) -> None:
    frames.send(pair[0], frames.encode({"path": os.fsdecode(b"/tmp/\xff")}))
    message, _ = frames.receive_message(pair[1])
    assert os.fsencode(message["path"]) == b"/tmp/\xff"


def test_descriptors_go_to_the_message_that_announced_them(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    read, write = os.pipe()
    frames.send(pair[0], frames.encode({"n": 1, "fds": 0}))
    frames.send(pair[0], frames.encode({"n": 2, "fds": 2}), [read, write])
    decoder = frames.Decoder()
    received: list[tuple[dict[str, Any], list[int]]] = []
    while len(received) < 2:
        decoder.feed(*frames.receive(pair[1]))
        while (found := decoder.pop()) is not None:
            received.append(found)
    assert [(message["n"], len(fds)) for message, fds in received] == [(1, 0), (2, 2)]
    theirs = received[1][1]
    assert os.write(theirs[1], b"x") == 1
    assert os.read(read, 1) == b"x"
    assert not [fd for fd in theirs if os.get_inheritable(fd)]
    for fd in (read, write, *theirs):
        os.close(fd)


def test_unclaimed_descriptors_are_closed_with_the_decoder(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    read, write = os.pipe()
    frames.send(pair[0], b"x", [write])
    os.close(write)
    decoder = frames.Decoder()
    decoder.feed(*frames.receive(pair[1]))
    decoder.close()
    assert os.read(read, 1) == b""
    os.close(read)


def test_descriptors_that_no_message_announced_are_refused(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Kept until the connection ends, they would be a way to have us run out of them."""
    read, write = os.pipe()
    decoder = frames.Decoder()
    frames.send(pair[0], frames.encode({"n": 1, "fds": 1}), [write, write])
    os.close(write)
    decoder.feed(*frames.receive(pair[1]))
    found = decoder.pop()
    assert found is not None
    os.close(*found[1])
    with pytest.raises(frames.BadFrame):
        decoder.pop()
    decoder.close()
    assert os.read(read, 1) == b""
    os.close(read)


def test_descriptors_that_we_may_not_have_open_are_that_error(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    read, write = os.pipe()
    frames.send(pair[0], b"x", [write] * 3)
    os.close(write)
    resource.setrlimit(resource.RLIMIT_NOFILE, (read + 20, hard))
    filling: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.dup(read))
        with pytest.raises(OSError, match="Too many open files") as caught:
            frames.receive(pair[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in (read, *filling):
            os.close(fd)
    assert caught.value.errno == errno.EMFILE


def test_an_end_before_a_whole_message_is_an_eof(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].sendall(frames.encode({"n": 1})[:-1])
    pair[0].close()
    with pytest.raises(EOFError):
        frames.receive_message(pair[1])


def test_a_peer_that_is_gone_is_an_error_and_no_signal(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        frames.send(pair[0], b"x")


def test_the_peers_uid_is_the_kernels_word(pair: tuple[socket.socket, socket.socket]) -> None:
    assert frames.peer_uid(pair[0]) == os.geteuid()
