"""Integrity check of a stored roster, and digests to compare rosters across stores and backends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeAlias

import orjson

from backends import KEY, And, Backend, Compare, In, Query, Snapshot, batched, read_in_parts, value_problems
from chalk_flask.oneroster.fields.composites import RefListField
from chalk_flask.oneroster.fields.scalars import JSON
from chalk_flask.oneroster.resource_type import Reference, ResourceType, without_timestamp
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.oneroster.vocabularies import ACTIVE
from chalk_flask.roster.integrity.canonical_form_check import CanonicalForm

__all__ = ["IntegrityReport", "check_store"]

BATCH_SIZE = 1000
MAX_BATCH_BYTES = 8 << 20
"""Maximum size of the records that are checked at once."""

MAX_LISTED = 100
Data: TypeAlias = dict[str, JSON]


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """Result of an integrity check. `counts` is the number of active records of each served collection that has any.

    `digest` is the SHA-256 of all served records, including tombstones, without `dateLastModified`;
    `state_digest` includes it. Equal rosters have equal digests on every backend. `problems` lists at most MAX_LISTED
    problems and then the number of the others. `is_damaged` is True if one of them is a problem of the file or the
    folder, and not only of records. Such a store should not be written.
    """

    counts: Mapping[str, int]
    digest: str
    state_digest: str
    problems: Sequence[str]
    is_damaged: bool = False

    @property
    def ok(self) -> bool:
        """True if there are no problems."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object for scripts."""
        return {
            "ok": self.ok,
            "counts": dict(self.counts),
            "digest": self.digest,
            "state": self.state_digest,
            "problems": list(self.problems),
        }

    def to_text(self) -> str:
        """Return the text for the terminal."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items()) or "no active records"
        lines = [*self.problems, counts, f"digest {self.digest}", f"state  {self.state_digest}"]
        return "\n".join(
            [*lines, "The store is valid." if self.ok else "The store is NOT valid, see the problems above."]
        )


@dataclass
class _Problems:
    """Collector of counts and problems."""

    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unlisted: int = 0

    def add(self, problem: str) -> None:
        if len(self.problems) < MAX_LISTED:
            self.problems.append(problem)
        else:
            self.unlisted += 1

    def listed(self) -> list[str]:
        return [*self.problems, *([f"and {self.unlisted} more problems"] if self.unlisted else [])]


class _Digests:
    """Digests of collections and records. Each is preceded by its length, so that different rosters differ in bytes."""

    def __init__(self) -> None:
        self._digest, self._state = sha256(), sha256()

    def collection(self, name: str) -> None:
        for digest in (self._digest, self._state):
            digest.update(b"collection %d:%s" % (len(name), name.encode()))

    def records(self, bodies: Sequence[bytes]) -> None:
        self._state.update(b"".join([b"record %d:%s" % (len(body), body) for body in bodies]))
        untimed = map(_without_timestamp, bodies)
        self._digest.update(b"".join([b"record %d:%s" % (len(body), body) for body in untimed]))

    def result(self) -> tuple[str, str]:
        return self._digest.hexdigest(), self._state.hexdigest()


def check_store(store: Backend, tenant: str = "default") -> IntegrityReport:
    """Check the store, the comparison keys of all tenants, and every record of the tenant, in batches.

    Raises StorageError if the store cannot be read.
    """
    problems, digests = _Problems(), _Digests()
    damages = store.check()
    for problem in (*damages, *value_problems(store)):
        problems.add(problem)
    with store.read(tenant) as snapshot:
        for _, resource_type in sorted(FILES.items()):
            if resource_type.served:
                digests.collection(resource_type.name)
            _CollectionCheck(snapshot, resource_type, problems, digests).run()
    return IntegrityReport(problems.counts, *digests.result(), problems.listed(), bool(damages))


class _CollectionCheck:
    """Check of one collection in one snapshot."""

    def __init__(self, snapshot: Snapshot, resource_type: ResourceType, problems: _Problems, digests: _Digests) -> None:
        self._snapshot = snapshot
        self._resource_type = resource_type
        self._problems = problems
        self._digests = digests
        self._form = CanonicalForm(resource_type)

    def run(self) -> None:
        """Check all records, in the order of their keys."""
        resource_type, keys, active = self._resource_type, 0, 0
        for batch in batched(self._snapshot.keys(resource_type.name), BATCH_SIZE):
            keys += len(batch)
            for bodies in self._bodies(batch):
                active += sum(map(resource_type.is_active, bodies.values()))
                if resource_type.served:
                    self._digests.records(list(bodies.values()))
                self._check(bodies)
        if resource_type.served and active:
            self._problems.counts[resource_type.name] = active
        total = self._snapshot.find(Query(resource_type.name, limit=0)).total
        if total != keys:
            self._problems.add(f"{resource_type.name}: a query counts {total} records, but there are {keys} keys")

    def _bodies(self, keys: Sequence[str]) -> Iterator[dict[str, bytes]]:
        """Yield the bodies by key, in the order of the keys, in parts of limited size."""
        every_id = [(self._resource_type.name, key) for key in keys]
        for ids, bodies in read_in_parts(self._snapshot, every_id, MAX_BATCH_BYTES):
            for _, key in (record_id for record_id in ids if record_id not in bodies):
                self._add_problem(key, "the key has no record")
            yield {record_id[1]: bodies[record_id] for record_id in ids if record_id in bodies}

    def _check(self, bodies: Mapping[str, bytes]) -> None:
        valid = {key: data for key, body in bodies.items() if (data := self._parse(key, body)) is not None}
        self._check_references(valid)
        for name, element in self._resource_type.derived_fields.items():
            self._check_derived(valid, name, element)

    def _parse(self, key: str, body: bytes) -> Data | None:
        """Return the JSON of a record, or None after adding a problem."""
        try:
            data: Data = orjson.loads(body)
        except ValueError as error:
            self._add_problem(key, f"not JSON: {error}")
            return None
        problem = None if self._form.is_certainly_canonical(body, data) else self._form.problem(body)
        if problem is None and data["sourcedId"] != key:
            problem = f"the sourcedId of the record is {data['sourcedId']!r}"
        if problem is not None:
            self._add_problem(key, problem)
            return None
        return data

    def _check_references(self, valid: Mapping[str, Data]) -> None:
        resource_type = self._resource_type
        if resource_type.shares_ids_with:
            self._check_targets(resource_type.shares_ids_with, {key: [key] for key in valid}, "it belongs to")
        for reference in resource_type.references:
            referring: dict[str, list[str]] = defaultdict(list)
            for key, data in valid.items():
                for target in resource_type.referenced_ids(data.get(reference.name)):
                    referring[target].append(key)
            self._check_targets(reference.target, referring, f"{reference.name} refers to")

    def _check_targets(self, collection: str, referring: Mapping[str, list[str]], relation: str) -> None:
        """Add a problem for each target that does not exist; `referring` holds the referring keys by target."""
        for targets in batched(referring, BATCH_SIZE):
            existing = set(self._snapshot.keys(collection, In(KEY, tuple(targets))))
            for target in targets:
                if target not in existing:
                    for key in referring[target]:
                        self._add_problem(key, f"{relation} {target!r} of {collection}, which does not exist")

    def _check_derived(self, valid: Mapping[str, Data], name: str, element: RefListField) -> None:
        derived = self._derived_ids(list(valid), element)
        for key, data in valid.items():
            expected = sorted(derived.get(key, ())) if data["status"] == ACTIVE else []
            if ResourceType.referenced_ids(data.get(name)) != expected:
                self._add_problem(
                    key, f"{name} should be {', '.join(expected) or 'empty'}, according to the active records"
                )

    def _derived_ids(self, keys: Sequence[str], element: RefListField) -> dict[str, set[str]]:
        """Return the ids in the derived field by key, as the active records imply them."""
        source, owner, target = self._derivation(element)
        where = And((In(owner.field, tuple(keys)), Compare("status", "=", ACTIVE)))
        derived: dict[str, set[str]] = defaultdict(set)
        for chunk in self._snapshot.find(Query(source, where)).chunks:
            for data in _parse_readable(chunk):
                ids = ResourceType.referenced_ids(data.get(target.name)) if target else [data["sourcedId"]]
                for key in ResourceType.referenced_ids(data.get(owner.name)):
                    derived[key].update(ids)
        return derived

    def _derivation(self, element: RefListField) -> tuple[str, Reference, Reference | None]:
        """Return the collection that implies a derived field, and its references to the owner and to the target.

        The target is None if the record itself is the target.
        """
        if element.inverse:
            references = {reference.name: reference for reference in FILES[element.target].references}
            return element.target, references[element.inverse], None
        by_target = {reference.target: reference for reference in FILES[element.link].references}
        return element.link, by_target[self._resource_type.name], by_target[element.target]

    def _add_problem(self, key: str, text: str) -> None:
        self._problems.add(f"{self._resource_type.name} {key!r}: {text}")


def _parse_readable(chunk: bytes) -> list[Data]:
    """Return the records of a chunk; none if one of them is not JSON, which is a problem of its own."""
    try:
        records: list[Data] = orjson.loads(b"[%s]" % chunk)
    except ValueError:
        return []
    return records


def _without_timestamp(body: bytes) -> bytes:
    try:
        return without_timestamp(body)
    except ValueError:
        return body
