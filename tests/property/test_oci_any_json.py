"""Whatever JSON, text or bytes a config is made of, the answer is a plan or one clear error."""

from __future__ import annotations

import copy
import json
import re
import string
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncrt.errors import SpecInvalid, SpecUnsupported
from asyncrt.oci import DEFAULT_PATH, Hook, Spec, derive_exec, hook_plans, membership
from asyncrt.oci.users import resolve_user
from asyncrt.platforms import choose, host
from tests.helpers import sandboxes
from tests.helpers.oci_configs import FULL

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64, 10**400])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["/", "", "\0", "A=b", "1.2.0", "RLIMIT_CORE", "/a\0"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.sampled_from(["path", "type", "uid"]), inner, max_size=4)
    ),
    max_leaves=8,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value inside `value`."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            found += places(each, (*path, key))
    return found


# What the host honours, and all there is: either one is a start for damage.
PLAIN = {
    "ociVersion": "1.2.0",
    "process": {
        **{key: FULL["process"][key] for key in ("args", "env", "cwd", "rlimits")},
        "noNewPrivileges": True,
        "oomScoreAdj": 3,
    },
    "hooks": FULL["hooks"],
    "annotations": {"a.b": "c"},
    "root": {"path": "/"},
    "linux": {"resources": {}, "sysctl": {}, "namespaces": []},
}
SANDBOX = sandboxes.config("/rootfs", ["true"], who=sandboxes.MAPPED)
SANDBOX["linux"] |= {
    "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}],
    "sysctl": {"net.ipv4.ip_forward": "1"},
    "namespaces": [{"type": "time"}, *SANDBOX["linux"]["namespaces"]],
    "timeOffsets": {"boottime": {"secs": 1, "nanosecs": 2}},
    "rootfsPropagation": "rslave",
}
PLACES = [(base, path) for base in (PLAIN, FULL, SANDBOX) for path in places(base)]


def answer(data: bytes) -> None:
    """Everything a spec goes through before anything is started."""
    try:
        spec = Spec.decode(data)
    except SpecInvalid as error:
        shows(error)
        return
    assert spec.encoded() == data
    try:
        plan = choose("auto", spec).plan(spec)
    except SpecInvalid as error:
        shows(error)
    except SpecUnsupported as error:
        names_fields(error)
    else:
        json.dumps(plan)
        names = [entry.partition("=")[0] for entry in plan["env"]]
        assert len(names) == len(set(names))
        assert "HOME" in names or plan.get("look_up_home")
        assert plan["args"]
        assert plan["args"][0]
        assert "\0" not in "".join([*plan["args"], *plan["env"], plan["cwd"]])
        hook_plans(spec.config, "poststop")


def names_fields(error: SpecUnsupported) -> None:
    assert error.fields
    str(error).encode()


def shows(error: SpecInvalid) -> None:
    assert error.why
    assert "\n" not in str(error)
    assert not error.json_path.startswith("$")  # the decoder's name for the whole document
    str(error).encode()


@given(st.sampled_from(PLACES), ANY_JSON)
@settings(max_examples=4 * settings().max_examples)  # one of some 300 places each
def test_any_json_at_any_place_is_honoured_or_refused(
    place: tuple[dict[str, Any], tuple[str | int, ...]], value: object
) -> None:
    base, path = place
    config: Any = copy.deepcopy(base)
    at = config
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    answer(json.dumps(config, ensure_ascii=True).encode())


@given(ANY_JSON)
def test_any_json_as_the_whole_config_is_refused_or_honoured(value: object) -> None:
    answer(json.dumps(value).encode())


@given(st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
@example(b'{"a":"\\ud800"}')
@example(b'{"ociVersion":"\\ud800"}')
@example(b'{"ociVersion":' + b"9" * 5000 + b"}")
@example(b'{"ociVersion":"1.2.0","x":' + b"9" * 5000 + b"}")
@example(b'{"ociVersion":"1.2.0","process":{"cwd":"/","oomScoreAdj":' + b"9" * 5000 + b"}}")
@example(b'{"ociVersion":"1.2.0","linux":{"resources":{"a":' + b"9" * 5000 + b"}}}")
@example(b'{"ociVersion":"1.2.0","linux":{"resources":' + b'{"a":' * 900 + b"1" + b"}" * 902)
def test_any_bytes_as_a_config_are_refused_or_honoured(data: bytes) -> None:
    answer(data)


@given(st.integers(0), st.binary(max_size=4), st.integers(0, 6))
def test_a_damaged_config_is_refused_or_honoured(where: int, patch: bytes, cut: int) -> None:
    data = json.dumps(PLAIN).encode()
    where %= len(data)
    answer(data[:where] + patch + data[where + cut :])


@given(
    args=st.lists(TEXT.filter(bool), min_size=1, max_size=4),
    env=st.dictionaries(TEXT.filter(lambda name: name and "=" not in name), TEXT, max_size=4),
    cwd=TEXT.map(lambda text: f"/{text}"),
    score=st.none() | st.integers(-1000, 1000),
    annotations=st.dictionaries(TEXT.filter(bool), TEXT, max_size=3),
    paths=st.lists(TEXT.map(lambda text: f"/{text}"), max_size=3),
)
def test_what_a_command_was_given_is_what_its_plan_has(
    args: list[str],
    env: dict[str, str],
    cwd: str,
    score: int | None,
    annotations: dict[str, str],
    paths: list[str],
) -> None:
    hooks = {"poststart": [Hook(path=each) for each in paths]}
    spec = Spec.command(
        args, env=env, cwd=cwd, oom_score_adj=score, annotations=annotations, hooks=hooks
    )
    again = Spec.decode(spec.encoded())
    assert again == spec
    plan = host.plan(again)
    assert (plan["args"], plan["cwd"], plan["oom_score_adj"]) == (args, cwd, score)
    found = dict(entry.split("=", 1) for entry in plan["env"])
    assert found == {"PATH": DEFAULT_PATH, "HOME": found["HOME"]} | env
    assert dict(again.config.annotations or {}) == annotations
    assert [each["path"] for each in hook_plans(again.config, "poststart")] == paths
    process = again.config.process
    assert process is not None
    derived = host.plan_process(derive_exec(process, ["x"], env={"NEW": "1"}))
    assert dict(each.split("=", 1) for each in derived["env"]) == found | {"NEW": "1"}


@given(
    st.text() | st.text(string.digits + ":+- .x_\n") | st.integers() | st.from_regex("[0-9]{1,11}")
)
def test_a_user_that_is_resolved_was_written_as_exactly_those_numbers_or_a_known_name(
    user: str | int,
) -> None:
    try:
        found = resolve_user(user, json_path="process.user")
    except SpecInvalid as error:
        shows(error)
        return
    uid, _, gid = str(user).partition(":")
    if re.fullmatch("[-+ _0-9]+", uid, re.ASCII):
        assert str(found.uid) == uid
    if re.fullmatch("[-+ _0-9]+", gid, re.ASCII):
        assert str(found.gid) == gid
    assert 0 <= found.uid < 2**32 - 1
    assert 0 <= found.gid < 2**32 - 1


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "io.kubernetes.cri.container-type",
                "io.kubernetes.cri.sandbox-id",
                "io.kubernetes.cri-o.ContainerType",
                "io.kubernetes.cri-o.SandboxID",
            ]
        ),
        st.sampled_from(["sandbox", "container", "", "x"]),
    )
)
def test_no_container_is_taken_for_a_sandbox_or_left_without_one(
    annotations: dict[str, str],
) -> None:
    config = Spec.command(["a"], annotations=annotations).config
    try:
        found = membership(config)
    except SpecInvalid:
        return
    said = "container" in annotations.values() or "sandbox" in annotations.values()
    if "container" not in annotations.values():
        assert found.sandbox_id is None
    if not said:
        assert found == (False, None, "", "")
    assert not (found.is_sandbox and found.sandbox_id)
