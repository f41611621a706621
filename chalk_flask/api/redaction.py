"""What is left out of the bodies that a limited bearer gets: redacted fields, references to what it cannot see.

Only such bearers' documents are parsed, and only where something may have to go. What remains is encoded as it was
stored: in the same order, without empty members but for the arrays that are always there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
import orjson

from backends import KEY, Among, Snapshot
from chalk_flask.access.limits import covers
from chalk_flask.api.conditions import NOTHING, both
from chalk_flask.api.visibility import Sight
from chalk_flask.oneroster.compounds import Refs
from chalk_flask.oneroster.elements import JSON
from chalk_flask.oneroster.resource import Reference
from chalk_flask.oneroster.resources import RESOURCES

__all__ = ["Acquaintances", "Cut", "cut"]

Cut: TypeAlias = Callable[[bytes], bytes]
"""From documents joined by commas to the same documents without what must not be seen."""

Hidden: TypeAlias = Mapping[str, set[str]]
"""The keys that are not visible, by collection."""


class Acquaintances:
    """Which of the records that documents refer to a bearer may see, remembered: a page names few, and often the same.

    What is known holds for one revision of a tenant. All is forgotten at once when it is much.
    """

    MANY = 500_000

    def __init__(self) -> None:
        self._known: dict[tuple[str, Sight, str], tuple[int, set[str], set[str]]] = {}
        self._lock = threading.Lock()

    def hidden(self, snapshot: Snapshot, tenant: str, seen_by: Sight, collection: str, keys: set[str]) -> set[str]:
        """Those of the keys that name no visible record."""
        _, shown, hidden = self._of((tenant, seen_by, collection), snapshot.revision)
        if unknown := keys - shown - hidden:
            where = both(Among(KEY, tuple(sorted(unknown))), seen_by.where(collection))
            found = set(snapshot.keys(collection, where))
            with self._lock:
                shown |= found
                hidden |= unknown - found
        return keys & hidden

    def _of(self, kind: tuple[str, Sight, str], revision: int) -> tuple[int, set[str], set[str]]:
        with self._lock:
            entry = self._known.get(kind)
            if entry is None or entry[0] != revision:
                if sum(len(shown) + len(hidden) for _, shown, hidden in self._known.values()) > self.MANY:
                    self._known.clear()
                entry = self._known[kind] = (revision, set(), set())
            return entry


def cut(collection: str, seen_by: Sight, snapshot: Snapshot, tenant: str, known: Acquaintances) -> Cut | None:
    """What to do to the documents of the collection; None when nothing can have to go."""
    knife = _knife(collection, seen_by)
    if knife is None:
        return None

    def hidden(target: str, keys: set[str]) -> set[str]:
        return known.hidden(snapshot, tenant, seen_by, target, keys)

    return lambda chunk: knife.applied(chunk, hidden)


class _Id(msgspec.Struct):
    sourced_id: str = msgspec.field(name="sourcedId")


class _Knife:
    """What has to go from the documents of a collection, whoever asks."""

    def __init__(self, collection: str, seen_by: Sight) -> None:
        resource, redacted = RESOURCES[collection], seen_by.redacted
        self._doubtful: list[Reference] = []
        self._denied: list[Reference] = []
        self._gone = [name for name in resource.elements if covers(redacted, name)]
        for reference in seen_by.doubtful(collection).values():
            if reference.name not in self._gone:
                denied = seen_by.where(reference.target) is NOTHING
                (self._denied if denied else self._doubtful).append(reference)
        parts = (path.removesuffix(".*").split(".", 1) for path in redacted if "." in path.removesuffix(".*"))
        self._parts = [(name, part) for name, part in parts if name in resource.elements and name not in self._gone]
        self._always = frozenset(resource.always)
        self._decoder = _decoder(self._doubtful)

    @property
    def blunt(self) -> bool:
        """Whether it never cuts anything."""
        return not (self._doubtful or self._denied or self._gone or self._parts)

    def applied(self, chunk: bytes, hidden: Callable[[str, set[str]], set[str]]) -> bytes:
        """The documents without what has to go; the chunk itself when that is nothing."""
        text = b"[%b]" % chunk
        away = {target: hidden(target, keys) for target, keys in self._referred(text).items() if keys}
        if not (self._denied or self._gone or self._parts or any(away.values())):
            return chunk
        documents: list[dict[str, JSON]] = orjson.loads(text)
        for document in documents:
            self._cut(document, away)
        return orjson.dumps(documents)[1:-1]

    def _referred(self, text: bytes) -> dict[str, set[str]]:
        """The keys that the doubtful references name, by collection."""
        keys: dict[str, set[str]] = {reference.target: set() for reference in self._doubtful}
        if not keys:
            return keys
        for document in self._decoder.decode(text):
            for n, reference in enumerate(self._doubtful):
                held = getattr(document, f"m{n}")
                if isinstance(held, list):
                    keys[reference.target].update([each.sourced_id for each in held])
                elif held is not None:
                    keys[reference.target].add(held.sourced_id)
        return keys

    def _cut(self, document: dict[str, JSON], away: Hidden) -> None:
        for name in self._gone:
            document.pop(name, None)
        for reference in self._denied:
            self._left(document, reference.name, [] if isinstance(reference.element, Refs) else None)
        for reference in self._doubtful:
            if gone := away.get(reference.target):
                self._left(document, reference.name, _outside(document.get(reference.name), gone))
        for name, part in self._parts:
            self._left(document, name, _without(document.get(name), part))

    def _left(self, document: dict[str, JSON], name: str, value: JSON) -> None:
        """Give the member, if the document has it, what is left of its value."""
        if name not in document:
            return
        if value or (name in self._always and value is not None):
            document[name] = value
        else:
            del document[name]


@lru_cache(maxsize=4096)
def _knife(collection: str, seen_by: Sight) -> _Knife | None:
    knife = _Knife(collection, seen_by)
    return None if knife.blunt else knife


def _decoder(references: Sequence[Reference]) -> msgspec.json.Decoder[Any]:
    """Reads of each document the ids that these references hold, and nothing else."""
    members = [
        (f"m{n}", list[_Id] | None if isinstance(each.element, Refs) else _Id | None, None)
        for n, each in enumerate(references)
    ]
    read = msgspec.defstruct("Referring", members, rename={f"m{n}": each.name for n, each in enumerate(references)})
    return msgspec.json.Decoder(list[read])  # type: ignore[valid-type]  # made just now


def _outside(value: JSON, gone: set[str]) -> JSON:
    """The references that do not lead to any of those keys."""
    if isinstance(value, list):
        return [each for each in value if each["sourcedId"] not in gone]
    return value if value is not None and value["sourcedId"] not in gone else None


def _without(value: JSON, path: str) -> JSON:
    """The value without what lies at the path below it; a name may hold dots, and lists do not count as a step."""
    match value:
        case list():
            return [left for each in value if (left := _without(each, path)) not in ({}, []) or left == each]
        case dict():
            left = {}
            for name, member in value.items():
                if covers((path,), name):
                    continue
                below = _without(member, path[len(name) + 1 :]) if path.startswith(name + ".") else member
                if below not in ({}, []) or below == member:
                    left[name] = below
            return left
        case _:
            return value
