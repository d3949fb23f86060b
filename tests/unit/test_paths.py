from __future__ import annotations

import os
import socket

from asyncrt import _paths
from asyncrt.ids import is_id

SUFFIXES = [_paths.LOCK, _paths.QUEUE, _paths.STATE, _paths.DIRECTORY]


def test_no_suffix_ends_another_so_that_no_two_ids_share_a_file() -> None:
    for one in SUFFIXES:
        assert one[0] == "."
        assert [other for other in SUFFIXES if other.endswith(one)] == [one]


def test_an_id_with_a_suffix_of_ours_has_files_of_its_own() -> None:
    ids = ["web", "web.state", "web.lock", "web.d", "web.queue"]
    names = [each + suffix for each in ids for suffix in SUFFIXES]
    assert len(set(names)) == len(names)


def test_a_temporary_name_is_no_file_of_any_id() -> None:
    name = _paths.temporary("web.state")
    assert name != _paths.temporary("web.state")
    assert not any(name.endswith(suffix) for suffix in SUFFIXES)
    assert not is_id(name)
    assert len(_paths.temporary("x" * 200 + _paths.STATE)) <= 255


def test_the_name_that_a_record_is_saved_by_is_no_file_of_any_id() -> None:
    names = {_paths.being_saved(each) for each in ("web", "web.state", "web.d", "x" * 200)}
    assert len(names) == 4
    for name in names:
        assert not any(name.endswith(suffix) for suffix in SUFFIXES)
        assert not is_id(name)
        assert len(name) <= 255


def test_the_gates_name_fits_into_comm() -> None:
    assert len(_paths.GATE_COMM) <= 15


def test_a_socket_below_a_long_root_has_a_path_that_fits(long_root: str) -> None:
    directory = os.open(long_root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert len(f"{long_root}/{_paths.CONTROL}") > 108
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(_paths.through(directory, _paths.CONTROL))
            listener.listen()
            client.connect(_paths.through(directory, _paths.CONTROL))
        os.unlink(_paths.CONTROL, dir_fd=directory)
    finally:
        os.close(directory)
