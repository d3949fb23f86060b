"""Where a layer is said to be: names of any kind work, what can't be one is refused, nothing is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import asyncrt
from tests.helpers import reality
from tests.helpers.cgroups import existing, unique
from tests.helpers.sandboxes import config, spec

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_program("busybox"),
]

_WRITE = ["/bin/sh", "-c", "echo new > /work/new"]


@pytest.mark.parametrize("name", ["n" * 255, "a\nb", "back\\slash", "a:b,c", "é"])
async def test_a_kept_layer_has_whatever_name(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path, name: str
) -> None:
    kept = asyncrt.Overlay.upper(open_directory / name)
    done = await engine.run("box", spec=spec(config(rootfs, _WRITE)), overlay=kept)
    assert done.exit.exit_code == 0
    assert (open_directory / name / "work/new").read_text() == "new\n"
    assert os.listdir(open_directory) == [name]


@pytest.mark.parametrize("kind", ["file", "fifo", "link", "dangling", "below", "beneath", "long"])
async def test_what_can_be_no_layer_is_one_error_and_the_id_is_free_again(
    engine: asyncrt.Engine, rootfs: str, open_directory: Path, kind: str
) -> None:
    (open_directory / "file").touch()
    os.mkfifo(open_directory / "fifo")
    (open_directory / "real").mkdir()
    os.symlink("real", open_directory / "link")
    os.symlink("nowhere", open_directory / "dangling")
    before = sorted(os.listdir(open_directory))
    overlay = asyncrt.Overlay.upper(open_directory / kind)
    if kind == "below":
        overlay = asyncrt.Overlay.upper(open_directory / "file" / "kept")
    elif kind == "beneath":
        overlay = asyncrt.Overlay.disk(open_directory / "file")
    elif kind == "long":
        overlay = asyncrt.Overlay.upper(open_directory / ("n" * 256))
    made = spec(config(rootfs, _WRITE))
    with pytest.raises(asyncrt.StartFailed) as caught:
        await engine.create("box", spec=made, overlay=overlay)
    assert caught.value.what == "overlay"
    assert "\n" not in str(caught.value)
    assert await engine.list() == []
    assert sorted(os.listdir(open_directory)) == before
    assert (
        await engine.run("box", spec=made, overlay=asyncrt.Overlay.memory())
    ).exit.exit_code == 0


@pytest.mark.needs_cgroups
@pytest.mark.parametrize("how", ["upper", "existing", "disk"])
@pytest.mark.parametrize("where", ["cgroup", "/proc", "/sys"])
async def test_a_layer_where_the_kernel_makes_up_the_files_is_refused_before_anything_is_made(
    engine: asyncrt.Engine, rootfs: str, where: str, how: str
) -> None:
    """A directory made among cgroups is one, and what the kernel puts there can't be removed again."""
    pod = unique()
    with existing(pod) as directory:
        place = {"cgroup": directory, "/proc": "/proc/self", "/sys": "/sys/kernel"}[where]
        overlay = {
            "upper": asyncrt.Overlay.upper(f"{place}/kept"),
            "existing": asyncrt.Overlay.upper(place),
            "disk": asyncrt.Overlay.disk(place),
        }[how]
        with pytest.raises(asyncrt.SpecInvalid, match="file system, which can hold") as caught:
            await engine.create(pod[1:], spec=spec(config(rootfs, _WRITE)), overlay=overlay)
        assert caught.value.json_path == "overlay"
        assert place in str(caught.value)
        assert "\n" not in str(caught.value)
        assert reality.files(engine.root) == set()
        for each in (place, os.path.dirname(directory)):
            assert not [
                name for name in os.listdir(each) if "kept" in name or f"{pod[1:]}." in name
            ]


@pytest.mark.parametrize("path", ["//", "//.", "/..", "\udcff", b"/bytes", 1, None])
def test_what_is_no_path_of_a_directory_is_refused(path: object) -> None:
    with pytest.raises(asyncrt.SpecInvalid):
        asyncrt.Overlay.upper(path)  # type: ignore[arg-type]  # what people pass all the same
