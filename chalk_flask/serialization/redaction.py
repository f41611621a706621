"""Redaction of documents for restricted callers: references to hidden records and redacted fields are removed.

The rest of a document keeps its stored bytes and order. Arrays that are always present stay as empty arrays.
References are cut out of the bytes of a page without parsing it. Only redacted fields need parsed documents.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import orjson

from backends import KEY, MATCH_NONE, In, Snapshot, and_
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.resource_type import Reference
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.policy import AccessPolicy
from chalk_flask.permissions.restrictions import is_redacted
from chalk_flask.serialization.metadata_names import MetadataNames

__all__ = [
    "RedactionCache",
    "Redactor",
    "ReferenceLookup",
    "is_emptied",
    "make_redactor",
    "paths_below",
    "without_parts",
]

# In stored bodies an escaped solidus marks the start of a reference's address and occurs nowhere else.
_REFERENCE = rb'\{"href":"\\/[^"]*","sourcedId":"[^"\\]*(?:\\.[^"\\]*)*","type":"[^"]*"\}'
_REFERENCE_PATTERN = re.compile(_REFERENCE)

_MEMBER_OVERHEAD_BYTES = 200
"""Approximate memory of a cached member beside its bytes."""


class RedactedMembers(dict[bytes, bytes]):
    """Map from a stored member with references to the member without hidden references.

    `size` is its approximate memory in bytes.
    """

    size = 0

    def add(self, member: bytes, redacted: bytes) -> None:
        """Add a redacted member."""
        self[member] = redacted
        self.size += len(member) + len(redacted) + _MEMBER_OVERHEAD_BYTES


class RedactionCache:
    """Cache of redacted reference members, per tenant, policy and collection. Thread-safe.

    Pages repeat the same few references. An entry is valid for one revision of a tenant. The whole cache is cleared
    when it exceeds `MAX_BYTES` or `MAX_ENTRIES`.
    """

    MAX_BYTES = 32 << 20
    MAX_ENTRIES = 1024

    def __init__(self) -> None:
        self._entries: dict[tuple[str, AccessPolicy, str], tuple[int, RedactedMembers]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    @property
    def size(self) -> int:
        """The approximate memory of all entries in bytes."""
        return sum(members.size for _, members in self._entries.values())

    def members(self, tenant: str, policy: AccessPolicy, collection: str, revision: int) -> RedactedMembers:
        """Return the mutable map of redacted members of a collection. The caller adds the members that it computes."""
        key = (tenant, policy, collection)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry[0] != revision or entry[1].size > self.MAX_BYTES:
                if len(self) >= self.MAX_ENTRIES or self.size > self.MAX_BYTES:
                    self._entries.clear()
                entry = self._entries[key] = (revision, RedactedMembers())
            return entry[1]


class ReferenceLookup(NamedTuple):
    """Snapshot of a tenant in which referenced records are looked up, and the cache of earlier results."""

    snapshot: Snapshot
    tenant: str
    cache: RedactionCache


class Redactor:
    """Filter of the documents of one collection, for one snapshot and policy. `make_redactor` creates it.

    Removes hidden references, redacted fields and the names of hidden records in metadata.
    """

    def __init__(
        self, rules: _RedactionRules, policy: AccessPolicy, snapshot: Snapshot, members: RedactedMembers
    ) -> None:
        self._rules = rules
        self._policy = policy
        self._snapshot = snapshot
        self._members = members
        self._names = MetadataNames(rules.collection, policy, snapshot)

    def look_up(self, chunks: Iterable[bytes]) -> None:
        """Look up the references of stored documents, so that `strip_references` needs no query for them."""
        pattern = self._rules.member_pattern
        if pattern is not None:
            self._add_members(member for chunk in chunks for member in pattern.findall(chunk))

    def strip_references(self, chunk: bytes) -> bytes:
        """Return stored documents without references to hidden records."""
        if self._rules.member_pattern is None:
            return chunk
        parts = self._rules.member_pattern.split(chunk)
        members = parts[1::2]
        self._add_members(members)
        redacted = [self._members[member] for member in members]
        if redacted == members:
            return chunk
        parts[1::2] = redacted
        return b"".join(parts)

    def strip_fields(self, chunk: bytes) -> bytes:
        """Return documents without redacted fields, and without the names of hidden records in their metadata."""
        rest = self._rules.strip_fields(chunk)
        if not self._rules.may_name_records(rest):
            return rest
        documents = orjson.loads(b"[%b]" % rest)
        return orjson.dumps(documents)[1:-1] if self._names.strip(documents) else rest

    def _add_members(self, members: Iterable[bytes]) -> None:
        needed = set(members)
        if any(member not in self._members for member in needed):
            if self._members.size > RedactionCache.MAX_BYTES:
                self._members = RedactedMembers()  # other threads use the old ones
            self._redact_members({member for member in needed if member not in self._members})

    def _redact_members(self, members: set[bytes]) -> None:
        """Add the members to the cache, with one query per referenced collection."""
        member_keys = {
            member: [orjson.loads(reference)["sourcedId"] for reference in _REFERENCE_PATTERN.findall(member)]
            for member in members
        }
        keys_by_target: dict[str, set[str]] = {}
        for member, keys in member_keys.items():
            keys_by_target.setdefault(self._rules.reference(member).target, set()).update(keys)
        visible = {target: self._visible_keys(target, keys) for target, keys in keys_by_target.items()}
        for member, keys in member_keys.items():
            visible_keys = visible[self._rules.reference(member).target]
            self._members.add(member, self._rules.strip_hidden(member, [key in visible_keys for key in keys]))

    def _visible_keys(self, collection: str, keys: set[str]) -> set[str]:
        rows = self._policy.rows_as_filter(collection)
        if rows is MATCH_NONE:
            return set()
        return set(self._snapshot.keys(collection, and_(In(KEY, tuple(sorted(keys))), rows)))


def make_redactor(collection: str, policy: AccessPolicy, lookup: ReferenceLookup) -> Redactor | None:
    """Return the redactor of a collection, or None if the policy removes nothing from its documents."""
    rules = _rules(collection, policy)
    if rules is None:
        return None
    snapshot, tenant, cache = lookup
    return Redactor(rules, policy, snapshot, cache.members(tenant, policy, collection, snapshot.revision))


class _RedactionRules:
    """Fields and references that a policy removes from the documents of a collection."""

    def __init__(self, collection: str, policy: AccessPolicy) -> None:
        resource_type, hidden = RESOURCES[collection], policy.hidden_names(collection)
        self.collection = collection
        self._removed_fields = hidden.redacted
        self._removed_parts = hidden.redacted_parts
        self._markers = [f'"{name}":'.encode() for name in (*self._removed_fields, *self._removed_parts)]
        self._name_markers = [f'"{name}":'.encode() for name in hidden.named]
        self._always_present = frozenset(resource_type.always_present)
        self._references: Mapping[bytes, Reference] = {
            reference.name.encode(): reference
            for reference in policy.hideable_references(collection).values()
            if reference.name not in self._removed_fields
        }
        names = b"|".join(self._references)
        pattern = rb'(,"(?:%b)":(?:%b|\[%b(?:,%b)*\]))' % (names, _REFERENCE, _REFERENCE, _REFERENCE)
        self.member_pattern = re.compile(pattern) if names else None

    @property
    def is_empty(self) -> bool:
        """True if the policy removes no field, no reference and no name."""
        return not (self._references or self._removed_fields or self._removed_parts or self._name_markers)

    def may_name_records(self, chunk: bytes) -> bool:
        """Return True if the metadata of documents may name records that are hidden."""
        return any(marker in chunk for marker in self._name_markers)

    def reference(self, member: bytes) -> Reference:
        """Return the reference field of a stored member."""
        return self._references[member[2 : member.index(b'"', 2)]]

    def strip_hidden(self, member: bytes, visible: list[bool]) -> bytes:
        """Return the member with its visible references only, or empty bytes if it has to be omitted."""
        if all(visible):
            return member
        name = self.reference(member).name
        references = [
            reference
            for reference, is_visible in zip(_REFERENCE_PATTERN.findall(member), visible, strict=True)
            if is_visible
        ]
        if not references and name not in self._always_present:
            return b""
        return b',"%b":[%b]' % (name.encode(), b",".join(references))

    def strip_fields(self, chunk: bytes) -> bytes:
        """Return the documents without redacted fields, or the chunk itself if it has none of them."""
        if not any(marker in chunk for marker in self._markers):
            return chunk
        documents: list[dict[str, JSON]] = orjson.loads(b"[%b]" % chunk)
        for document in documents:
            for name in self._removed_fields:
                document.pop(name, None)
            for name, paths in self._removed_parts.items():
                if name in document:
                    document[name] = without_parts(document[name], paths)
                    if not document[name]:
                        del document[name]
        return orjson.dumps(documents)[1:-1]


@lru_cache(maxsize=4096)
def _rules(collection: str, policy: AccessPolicy) -> _RedactionRules | None:
    rules = _RedactionRules(collection, policy)
    return None if rules.is_empty else rules


def without_parts(value: JSON, paths: Sequence[str]) -> JSON:
    """Return the value without the parts at the paths. Names may contain dots, and lists are not a step of a path.

    Objects and lists that become empty are removed. Those that were already empty stay.
    """
    match value:
        case list():
            return [rest for item in value if not is_emptied(rest := without_parts(item, paths), item)]
        case dict():
            members = {}
            for name, member in value.items():
                if is_redacted(paths, name):
                    continue
                below = paths_below(paths, name)
                rest = without_parts(member, below) if below else member
                if not is_emptied(rest, member):
                    members[name] = rest
            return members
        case _:
            return value


def paths_below(paths: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the rest of the paths that lead through a member."""
    return tuple(path[len(name) + 1 :] for path in paths if path.startswith(name + "."))


def is_emptied(rest: JSON, value: JSON) -> bool:
    """Return True if nothing is left of an object or a list that was not empty."""
    return rest in ({}, []) and rest != value
