"""What is on disk: the root, records, exit records, state files, and what is true of them now."""

from __future__ import annotations

from asyncrt._paths import default_root
from asyncrt.state.event import DESTROYED, Event, Told
from asyncrt.state.event_log import EventLog, Position
from asyncrt.state.event_mending import Missing, append_missing, missing_events
from asyncrt.state.exit_record import ExitResult, read_exit
from asyncrt.state.filter import BROKEN, Filter, moment_of
from asyncrt.state.listing import find, list_ids, list_views, view_now
from asyncrt.state.members import add_member, has_members, read_members, remove_member
from asyncrt.state.reality import Observed, look, observe, settle
from asyncrt.state.record import (
    CgroupPlace,
    Deletion,
    HookProgress,
    Identity,
    Leased,
    Record,
    exists,
    read_record,
)
from asyncrt.state.root import open_root
from asyncrt.state.state_file import StateFile
from asyncrt.state.survey import Rest, Survey, rest_of, survey
from asyncrt.state.view import View, view_of

__all__ = [
    "BROKEN",
    "DESTROYED",
    "CgroupPlace",
    "Deletion",
    "Event",
    "EventLog",
    "ExitResult",
    "Filter",
    "HookProgress",
    "Identity",
    "Leased",
    "Missing",
    "Observed",
    "Position",
    "Record",
    "Rest",
    "StateFile",
    "Survey",
    "Told",
    "View",
    "add_member",
    "append_missing",
    "default_root",
    "exists",
    "find",
    "has_members",
    "list_ids",
    "list_views",
    "look",
    "missing_events",
    "moment_of",
    "observe",
    "open_root",
    "read_exit",
    "read_members",
    "read_record",
    "remove_member",
    "rest_of",
    "settle",
    "survey",
    "view_now",
    "view_of",
]
