"""Members that a writer cannot see: its writes keep them as they are stored (interpretation W-14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import orjson

from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.permissions.policy import AccessPolicy
from chalk_flask.permissions.restrictions import is_redacted
from chalk_flask.serialization.redaction import is_emptied, paths_below, without_parts

__all__ = ["HiddenMemberError", "HiddenMembers"]

Members: TypeAlias = dict[str, JSON]

DEPENDENT_MEMBERS = (("resultValueMin", "resultValueMax"), ("score", "scoreStatus"))
"""Pairs of members that are validated together. An error about one would reveal the other."""


class HiddenMemberError(Exception):
    """Error for a write that needs a member which the writer cannot see. The message names it, not its value."""


class HiddenMembers:
    """Members of one class that a policy hides from a writer.

    A redacted member in a payload is ignored, like an unknown one. A reference to a denied collection stays in the
    payload, so that it is rejected like a reference to an unknown record.
    """

    def __init__(self, resource_type: ResourceType, policy: AccessPolicy) -> None:
        self._resource_type = resource_type
        self._redacted, self._parts, self._denied, self._named = policy.hidden_names(resource_type.name)

    def __bool__(self) -> bool:
        """Return True if the policy hides a member of the class."""
        return bool(self._redacted or self._parts or self._denied or self._named)

    def hides(self, name: str) -> bool:
        """Return True if the writer cannot see this member."""
        return name in self._redacted or name in self._denied

    def keeps(self, name: str, payload: Mapping[str, JSON]) -> bool:
        """Return True if the member stays as stored. A reference that the payload names does not: it is checked."""
        return name in self._redacted or (name in self._denied and _value(payload, name) is None)

    def visible(self, payload: Mapping[str, JSON]) -> Members:
        """Return the payload without the redacted members and parts, which are ignored."""
        members = {name: value for name, value in payload.items() if name not in self._redacted}
        return members | {
            name: without_parts(members[name], paths) for name, paths in self._parts.items() if name in members
        }

    def complete(self, payload: Mapping[str, JSON], body: bytes | None) -> Members:
        """Return the payload with the hidden members of the stored body; None for a new record.

        Raises HiddenMemberError if a new record requires a hidden member, or if a changed member depends on one.
        """
        members = {name: value for name, value in payload.items() if name not in self._redacted}
        if body is None:
            self._check_required()
            return self._with_parts(members, {})
        stored: Members = orjson.loads(body)
        kept = {name: value for name, value in stored.items() if self.keeps(name, payload)}
        completed = self._with_parts(members | kept, stored)
        self._check_dependents(completed, stored)
        return completed

    def _with_parts(self, members: Members, stored: Members) -> Members:
        completed = dict(members)
        for name, paths in self._parts.items():
            sent = _value(members, name)
            if sent is not None and not isinstance(sent, dict):
                continue  # only metadata of writable classes has parts, and validation rejects any other value
            value = _merge(stored.get(name), sent, paths)
            completed[name] = None if value in ({}, []) else value
        return completed

    def _check_required(self) -> None:
        fields = self._resource_type.fields
        required = [name for name in fields if fields[name].required and self.hides(name)]
        if required:
            raise HiddenMemberError(
                f"This credential cannot create a {self._resource_type.singular_name}, because its restrictions hide"
                f" a required member: {', '.join(required)}"
            )

    def _check_dependents(self, members: Members, stored: Members) -> None:
        for pair in DEPENDENT_MEMBERS:
            for name, hidden in (pair, pair[::-1]):
                if self.hides(hidden) and not self.hides(name) and _value(members, name) != _value(stored, name):
                    raise HiddenMemberError(
                        f"This credential cannot change {name}, because its restrictions hide {hidden}"
                    )


def _value(members: Mapping[str, JSON], name: str) -> JSON:
    """Return the value of a member; None if it counts as absent (interpretation W-05)."""
    value = members.get(name)
    return None if value in ("", []) else value


def _merge(stored: JSON, sent: JSON, paths: Sequence[str]) -> JSON:
    """Return the sent value with the redacted parts of the stored one; None for no value.

    Objects are merged member by member. Any other stored value with redacted parts stays as it is.
    """
    if sent is None:
        return _redacted_parts(stored, paths)
    if isinstance(stored, dict) and isinstance(sent, dict):
        return _merge_objects(stored, sent, paths)
    if without_parts(stored, paths) != stored:
        return stored
    return without_parts(sent, paths)


def _merge_objects(stored: Members, sent: Members, paths: Sequence[str]) -> Members:
    members: Members = {}
    for name, value in stored.items():  # in the stored order, so that an unchanged record keeps its bytes
        below = paths_below(paths, name)
        if is_redacted(paths, name):
            members[name] = value
        elif below and (rest := _merge(value, sent.get(name), below)) is not None:
            members[name] = rest
        elif not below and name in sent:
            members[name] = sent[name]
    for name, value in sent.items():
        if name not in stored and not is_redacted(paths, name):
            below = paths_below(paths, name)
            rest = without_parts(value, below) if below else value
            if not is_emptied(rest, value):
                members[name] = rest
    return members


def _redacted_parts(value: JSON, paths: Sequence[str]) -> JSON:
    """Return the redacted parts of a value alone; None if there are none."""
    match value:
        case list():
            return [rest for item in value if (rest := _redacted_parts(item, paths)) is not None] or None
        case dict():
            parts = {
                name: member if is_redacted(paths, name) else _redacted_parts(member, paths_below(paths, name))
                for name, member in value.items()
            }
            return {name: part for name, part in parts.items() if part is not None or is_redacted(paths, name)} or None
        case _:
            return None
