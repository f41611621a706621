"""Whether a store holds a sound roster, and two digests by which rosters are compared across stores and backends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from backends import KEY, And, Backend, Compare, In, Query, Snapshot, batched
from chalk_flask.oneroster.fields.composites import RefListField
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.resource_type import Reference, ResourceType, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.verify.canonical_form import CanonicalForm

__all__ = ["IntegrityReport", "check_store", "empty_report"]

BATCH_SIZE = 1000
MAX_LISTED = 100
Data = dict[str, JSON]


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """What was found. `counts` are the active records of each served collection that has any.

    `digest` is the SHA-256 of all served records, tombstones among them, without the moment of their last change;
    `state` is the same with it. Equal rosters have equal digests on every backend. Of more than a hundred problems the
    last sentence is their number.
    """

    counts: Mapping[str, int]
    digest: str
    state: str
    problems: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The JSON object for scripts."""
        return {
            "ok": self.ok,
            "counts": dict(self.counts),
            "digest": self.digest,
            "state": self.state,
            "problems": list(self.problems),
        }

    def to_text(self) -> str:
        """What a person reads."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items()) or "no active records"
        lines = [*self.problems, counts, f"digest {self.digest}", f"state  {self.state}"]
        return "\n".join([*lines, "The store is sound." if self.ok else "The store is NOT sound; see above."])


@dataclass
class _Problems:
    """What is gathered on the way."""

    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    untold: int = 0

    def add(self, problem: str) -> None:
        if len(self.problems) < MAX_LISTED:
            self.problems.append(problem)
        else:
            self.untold += 1

    def told(self) -> list[str]:
        return [*self.problems, *([f"and {self.untold} more problems"] if self.untold else [])]


class _Digests:
    """Hashes of collections and records. Each is preceded by its length, so no two rosters hash the same bytes."""

    def __init__(self) -> None:
        self._digest, self._state = sha256(), sha256()

    def collection(self, name: str) -> None:
        for each in (self._digest, self._state):
            each.update(b"collection %d:%s" % (len(name), name.encode()))

    def records(self, bodies: Sequence[bytes]) -> None:
        self._state.update(b"".join([b"record %d:%s" % (len(body), body) for body in bodies]))
        bare = map(_without_stamp, bodies)
        self._digest.update(b"".join([b"record %d:%s" % (len(body), body) for body in bare]))

    def result(self) -> tuple[str, str]:
        return self._digest.hexdigest(), self._state.hexdigest()


def check_store(store: Backend, tenant: str = "default") -> IntegrityReport:
    """Look at every record of the tenant, a thousand at a time. Raises StorageError when the store cannot be read."""
    findings, digests = _Problems(), _Digests()
    for problem in store.check():
        findings.add(problem)
    with store.read(tenant) as snapshot:
        for _, resource in sorted(FILES.items()):
            if resource.served:
                digests.collection(resource.name)
            _CollectionCheck(snapshot, resource, findings, digests).run()
    return IntegrityReport(findings.counts, *digests.result(), findings.told())


def empty_report() -> IntegrityReport:
    """What is found in a store that does not exist yet: the same as in an empty one."""
    digests = _Digests()
    for _, resource in sorted(FILES.items()):
        if resource.served:
            digests.collection(resource.name)
    return IntegrityReport({}, *digests.result(), [])


class _CollectionCheck:
    """The check of one collection in one snapshot."""

    def __init__(self, snapshot: Snapshot, resource: ResourceType, findings: _Problems, digests: _Digests) -> None:
        self._snapshot = snapshot
        self._resource = resource
        self._findings = findings
        self._digests = digests
        self._form = CanonicalForm(resource)

    def run(self) -> None:
        """Go through the records in the order of their keys."""
        resource, keys, active = self._resource, 0, 0
        for batch in batched(self._snapshot.keys(resource.name), BATCH_SIZE):
            keys += len(batch)
            bodies = self._bodies(batch)
            active += sum(map(resource.is_active, bodies.values()))
            if resource.served:
                self._digests.records(list(bodies.values()))
            self._check(bodies)
        if resource.served and active:
            self._findings.counts[resource.name] = active
        total = self._snapshot.find(Query(resource.name, limit=0)).total
        if total != keys:
            self._findings.add(f"{resource.name}: a query counts {total} records, but there are {keys} keys")

    def _bodies(self, keys: Sequence[str]) -> dict[str, bytes]:
        found = self._snapshot.get_many(self._resource.name, keys)
        for key in keys:
            if key not in found:
                self._say(key, "there is a key, but no record")
        return {key: found[key] for key in keys if key in found}

    def _check(self, bodies: Mapping[str, bytes]) -> None:
        sound = {key: data for key, body in bodies.items() if (data := self._read(key, body)) is not None}
        self._check_references(sound)
        for name, element in self._resource.derived_fields.items():
            self._check_derived(sound, name, element)

    def _read(self, key: str, body: bytes) -> Data | None:
        """The record's JSON, or None once it is said what is wrong with it."""
        try:
            data: Data = orjson.loads(body)
        except ValueError as error:
            self._say(key, f"not JSON: {error}")
            return None
        problem = None if self._form.holds(body, data) else self._form.problem(body)
        if problem is None and data["sourcedId"] != key:
            problem = f"the record's sourcedId is {data['sourcedId']!r}"
        if problem is not None:
            self._say(key, problem)
            return None
        return data

    def _check_references(self, sound: Mapping[str, Data]) -> None:
        if self._resource.shares_ids_with:
            self._check_there(self._resource.shares_ids_with, {key: [key] for key in sound}, "it belongs to")
        for reference in self._resource.references:
            named: dict[str, list[str]] = defaultdict(list)
            for key, data in sound.items():
                for other in ResourceType.referenced_ids(data.get(reference.name)):
                    named[other].append(key)
            self._check_there(reference.target, named, f"{reference.name} refers to")

    def _check_there(self, target: str, named: Mapping[str, list[str]], relation: str) -> None:
        for ids in batched(named, BATCH_SIZE):
            there = set(self._snapshot.keys(target, In(KEY, tuple(ids))))
            for other in ids:
                if other not in there:
                    for key in named[other]:
                        self._say(key, f"{relation} {other!r} of {target}, which is not there")

    def _check_derived(self, sound: Mapping[str, Data], name: str, element: RefListField) -> None:
        implied = self._implied(list(sound), element)
        for key, data in sound.items():
            expected = sorted(implied.get(key, ())) if data["status"] == ACTIVE else []
            if ResourceType.referenced_ids(data.get(name)) != expected:
                self._say(key, f"{name} should be {', '.join(expected) or 'empty'}, as active records imply")

    def _implied(self, keys: Sequence[str], element: RefListField) -> dict[str, set[str]]:
        """For each key the ids that active records imply for the derived element."""
        source, here, there = self._derivation(element)
        where = And((In(here.field, tuple(keys)), Compare("status", "=", ACTIVE)))
        found: dict[str, set[str]] = defaultdict(set)
        for chunk in self._snapshot.find(Query(source, where)).chunks:
            for data in orjson.loads(b"[%s]" % chunk):
                of = ResourceType.referenced_ids(data.get(here.name))
                other = ResourceType.referenced_ids(data.get(there.name)) if there else [data["sourcedId"]]
                for key in of:
                    found[key].update(other)
        return found

    def _derivation(self, element: RefListField) -> tuple[str, Reference, Reference | None]:
        """The collection whose rows imply the element, their reference to us, and that to the other (None: itself)."""
        if element.inverse:
            references = {each.name: each for each in FILES[element.target].references}
            return element.target, references[element.inverse], None
        by_target = {each.target: each for each in FILES[element.link].references}
        return element.link, by_target[self._resource.name], by_target[element.target]

    def _say(self, key: str, what: str) -> None:
        self._findings.add(f"{self._resource.name} {key!r}: {what}")


def _without_stamp(body: bytes) -> bytes:
    try:
        return without_timestamp(body)
    except ValueError:
        return body
