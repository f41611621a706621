"""What is left out of the bodies that a limited bearer gets: references to what it cannot see, redacted fields.

What remains is as it was stored: in the same order, without empty members but for the arrays that are always there.
References are cut out of the bytes of a page, which tell them from anything else; only redaction parses documents.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import orjson

from backends import KEY, MATCH_NONE, In, Snapshot, and_
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.resource_type import Reference
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.policy import AccessPolicy
from chalk_flask.permissions.restrictions import is_redacted

__all__ = ["RedactionCache", "Redactor", "make_redactor"]

# In stored bodies an escaped solidus begins the address of a reference, and stands nowhere else (design section 2).
_REFERENCE = rb'\{"href":"\\/[^"]*","sourcedId":"[^"\\]*(?:\\.[^"\\]*)*","type":"[^"]*"\}'
_ONE = re.compile(_REFERENCE)

Left: TypeAlias = dict[bytes, bytes]
"""A member with references as it is stored, to what a bearer gets of it."""


class RedactionCache:
    """What is left of members with references, remembered: a page names few records, and often the same.

    What is known holds for one revision of a tenant. All is forgotten at once when it is much.
    """

    MANY = 50_000

    def __init__(self) -> None:
        self._known: dict[tuple[str, AccessPolicy, str], tuple[int, Left]] = {}
        self._lock = threading.Lock()

    def of(self, tenant: str, seen_by: AccessPolicy, collection: str, revision: int) -> Left:
        """What is known of a collection; whoever learns more adds it."""
        kind = (tenant, seen_by, collection)
        with self._lock:
            entry = self._known.get(kind)
            if entry is None or entry[0] != revision or len(entry[1]) > self.MANY:
                if sum(len(left) for _, left in self._known.values()) > self.MANY:
                    self._known.clear()
                entry = self._known[kind] = (revision, {})
            return entry[1]


class Redactor:
    """Takes out of the documents of one answer what its bearer must not see."""

    def __init__(self, knife: _RedactionRules, seen_by: AccessPolicy, snapshot: Snapshot, left: Left) -> None:
        self._knife = knife
        self._seen_by = seen_by
        self._snapshot = snapshot
        self._left = left

    def strip_references(self, chunk: bytes) -> bytes:
        """Stored documents without references to what is not visible."""
        if self._knife.members is None:
            return chunk
        parts = self._knife.members.split(chunk)
        members = parts[1::2]
        if unknown := {member for member in members if member not in self._left}:
            self._learn(unknown)
        left = [self._left[member] for member in members]
        if left == members:
            return chunk
        parts[1::2] = left
        return b"".join(parts)

    def strip_fields(self, chunk: bytes) -> bytes:
        """Documents without the redacted fields."""
        return self._knife.redacted(chunk)

    def _learn(self, members: set[bytes]) -> None:
        """Look up what these members refer to, with one question a collection."""
        named = {member: [orjson.loads(each)["sourcedId"] for each in _ONE.findall(member)] for member in members}
        asked: dict[str, set[str]] = {}
        for member, keys in named.items():
            asked.setdefault(self._knife.reference(member).target, set()).update(keys)
        shown = {target: self._visible(target, keys) for target, keys in asked.items()}
        for member, keys in named.items():
            reference = self._knife.reference(member)
            self._left[member] = self._knife.trimmed(member, [key in shown[reference.target] for key in keys])

    def _visible(self, collection: str, keys: set[str]) -> set[str]:
        where = self._seen_by.rows_hinted(collection)
        if where is MATCH_NONE:
            return set()
        return set(self._snapshot.keys(collection, and_(In(KEY, tuple(sorted(keys))), where)))


def make_redactor(
    collection: str, seen_by: AccessPolicy, snapshot: Snapshot, tenant: str, known: RedactionCache
) -> Redactor | None:
    """What has to be done to the documents of the collection; None when nothing can have to go."""
    knife = _knife(collection, seen_by)
    if knife is None:
        return None
    return Redactor(knife, seen_by, snapshot, known.of(tenant, seen_by, collection, snapshot.revision))


class _RedactionRules:
    """What has to go from the documents of a collection, whoever asks."""

    def __init__(self, collection: str, seen_by: AccessPolicy) -> None:
        resource, redacted = RESOURCES[collection], seen_by.redacted
        self._gone = [name for name in resource.fields if is_redacted(redacted, name)]
        parts = (path.removesuffix(".*").split(".", 1) for path in redacted if "." in path.removesuffix(".*"))
        self._parts = [(name, part) for name, part in parts if name in resource.fields and name not in self._gone]
        self._marks = [f'"{name}":'.encode() for name in (*self._gone, *(name for name, _ in self._parts))]
        self._always = frozenset(resource.always_present)
        doubtful = seen_by.hideable_references(collection).values()
        self._references: Mapping[bytes, Reference] = {
            each.name.encode(): each for each in doubtful if each.name not in self._gone
        }
        names = b"|".join(self._references)
        text = rb'(,"(?:%b)":(?:%b|\[%b(?:,%b)*\]))' % (names, _REFERENCE, _REFERENCE, _REFERENCE)
        self.members = re.compile(text) if names else None

    @property
    def blunt(self) -> bool:
        """Whether it never cuts anything."""
        return not (self._references or self._gone or self._parts)

    def reference(self, member: bytes) -> Reference:
        """What the member is."""
        return self._references[member[2 : member.index(b'"', 2)]]

    def trimmed(self, member: bytes, shown: list[bool]) -> bytes:
        """What is left of the member when these of its references are shown."""
        if all(shown):
            return member
        name = self.reference(member).name
        left = [each for each, kept in zip(_ONE.findall(member), shown, strict=True) if kept]
        return b',"%b":[%b]' % (name.encode(), b",".join(left)) if left or name in self._always else b""

    def redacted(self, chunk: bytes) -> bytes:
        """The documents without redacted fields; the chunk itself when it has none of them."""
        if not any(mark in chunk for mark in self._marks):
            return chunk
        documents: list[dict[str, JSON]] = orjson.loads(b"[%b]" % chunk)
        for document in documents:
            for name in self._gone:
                document.pop(name, None)
            for name, part in self._parts:
                if name in document:
                    document[name] = _without(document[name], part)
                    if not document[name]:
                        del document[name]
        return orjson.dumps(documents)[1:-1]


@lru_cache(maxsize=4096)
def _knife(collection: str, seen_by: AccessPolicy) -> _RedactionRules | None:
    knife = _RedactionRules(collection, seen_by)
    return None if knife.blunt else knife


def _without(value: JSON, path: str) -> JSON:
    """The value without what lies at the path below it; a name may hold dots, and lists do not count as a step."""
    match value:
        case list():
            return [left for each in value if (left := _without(each, path)) not in ({}, []) or left == each]
        case dict():
            left = {}
            for name, member in value.items():
                if is_redacted((path,), name):
                    continue
                below = _without(member, path[len(name) + 1 :]) if path.startswith(name + ".") else member
                if below not in ({}, []) or below == member:
                    left[name] = below
            return left
        case _:
            return value
