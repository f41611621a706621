"""Names of records in metadata: a restricted caller sees those of visible records only (interpretation L-12)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

import orjson

from backends import FOLDED_KEY, And, In, Snapshot
from chalk_flask.oneroster.fields.composites import metadata_key
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.permissions.policy import AccessPolicy

__all__ = ["HiddenNameError", "MetadataNames"]

Members: TypeAlias = dict[str, JSON]


class HiddenNameError(Exception):
    """Error for metadata that names a record which the caller cannot see, or which does not exist.

    `path` is the path of the name, `target` the collection of the record, `name` its id.
    """

    def __init__(self, path: str, target: str, name: str) -> None:
        super().__init__(path, target, name)
        self.path, self.target, self.name = path, target, name


class MetadataNames:
    """Members of the metadata of one collection that name records, as a policy shows them in a snapshot."""

    def __init__(self, collection: str, policy: AccessPolicy, snapshot: Snapshot) -> None:
        self._targets = policy.hidden_names(collection).named
        self._policy = policy
        self._snapshot = snapshot

    def strip(self, documents: Iterable[Members]) -> bool:
        """Remove the names of hidden records from documents. Return True if there were any."""
        with_metadata = [one for one in documents if isinstance(one.get("metadata"), dict)]
        visible = self._visible_names(document["metadata"] for document in with_metadata)
        stripped = False
        for document in with_metadata:
            rest = _without_hidden(document["metadata"], visible)
            if rest != document["metadata"]:
                stripped = True
                document["metadata"] = rest
                if not rest:
                    del document["metadata"]
        return stripped

    def check(self, payload: Mapping[str, JSON]) -> None:
        """Raise HiddenNameError if the metadata of a payload names a record that is not visible."""
        metadata = payload.get("metadata")
        if not isinstance(metadata, dict):
            return
        for member, visible in self._visible_names([metadata]).items():
            for name in _names(metadata.get(member)):
                if metadata_key(name) not in visible:
                    raise HiddenNameError(f"metadata.{member}", self._targets[member], str(name))

    def complete(self, members: Mapping[str, JSON], body: bytes | None) -> Members:
        """Return the members of a payload with the names of hidden records in the stored body; None for a new record.

        A member that the payload repeats as the caller sees it keeps its stored value. Otherwise its hidden names
        precede the sent ones.
        """
        completed = dict(members)
        stored = orjson.loads(body).get("metadata") if body else None
        sent = members.get("metadata") or {}
        if not isinstance(stored, dict) or not isinstance(sent, dict):
            return completed
        seen = _without_hidden(stored, self._visible_names([stored]))
        if seen != stored:
            # In the stored order, so that an unchanged record keeps its bytes.
            kept = [name for name in stored if name in sent or seen.get(name) != stored[name]]
            merged = {name: _merge(stored[name], seen.get(name), sent.get(name)) for name in kept}
            completed["metadata"] = merged | {name: sent[name] for name in sent if name not in stored}
        return completed

    def _visible_names(self, metadata: Iterable[Mapping[str, JSON]]) -> dict[str, Collection[str]]:
        """Return the visible names by member, with their case folded. Takes one query for each member in use."""
        objects = list(metadata)
        return {
            member: self._visible_keys(
                target, {metadata_key(name) for one in objects for name in _names(one.get(member))}
            )
            for member, target in self._targets.items()
        }

    def _visible_keys(self, target: str, keys: Collection[str]) -> Collection[str]:
        if not keys:
            return ()
        where = And((self._policy.rows(target), In(FOLDED_KEY, tuple(sorted(keys)))))
        return {key.casefold() for key in self._snapshot.keys(target, where)}


def _names(value: JSON) -> Iterator[JSON]:
    """Yield the single values of a member. An empty text names nothing."""
    if isinstance(value, list):
        for item in value:
            yield from _names(item)
    elif value not in (None, "") and not isinstance(value, dict):
        yield value


def _without_hidden(metadata: Mapping[str, JSON], visible: Mapping[str, Collection[str]]) -> Members:
    """Return metadata without names that are not visible, and without members of which nothing is left."""
    rest = {name: _visible_part(value, visible[name]) if name in visible else value for name, value in metadata.items()}
    return {name: value for name, value in rest.items() if value is not None or metadata[name] is None}


def _visible_part(value: JSON, visible: Collection[str]) -> JSON:
    """Return the visible names of a member; None if there are none."""
    if isinstance(value, list):
        parts = [part for item in value if (part := _visible_part(item, visible)) is not None or item is None]
        return parts if parts or not value else None
    return value if all(metadata_key(name) in visible for name in _names(value)) else None


def _merge(stored: JSON, seen: JSON, sent: JSON) -> JSON:
    """Return the value of a member after a write: `seen` is what the writer sees of the stored value."""
    if sent == seen:
        return stored
    if seen == stored:
        return sent
    visible = set(map(metadata_key, _names(seen)))
    hidden = [name for name in _names(stored) if metadata_key(name) not in visible]
    return [*hidden, *(sent if isinstance(sent, list) else [] if sent in (None, "") else [sent])]
