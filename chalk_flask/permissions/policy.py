"""What limits leave of each collection: one table of conditions, and what follows for paths, filters and sorts.

The rows a bearer may see are a condition of the query tree (design section 6), so totals, pages, parents and semi-joins
know nothing else. What a limit means for each class is the table MEANINGS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeAlias

from backends import EVERYTHING, KEY, AllOf, Among, AnyOf, Compare, Not, Select, Where
from chalk_flask.auth.tokens.record import Grant
from chalk_flask.oneroster.fields.scalars import Element, Path, fold
from chalk_flask.oneroster.relations import NOTHING, both, typed
from chalk_flask.oneroster.resource_type import Reference, Resource
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.restrictions import UNLIMITED, Limits, covers

__all__ = ["MEANINGS", "OPEN", "Meaning", "Sight", "sight", "sight_within", "visible"]

Ids: TypeAlias = tuple[str, ...]
Limit: TypeAlias = Callable[[Ids], Where]

GENERATIONS = 8
"""How far above an allowed org its ancestors are visible; the standard has six types of orgs."""


def _among(path: str) -> Limit:
    return lambda ids: Among(path, ids)


def _and_ancestors(ids: Ids) -> Where:
    """The allowed orgs and those above them."""
    allowed: Where = Among(KEY, ids)
    found = allowed
    for _ in range(GENERATIONS):
        found = AnyOf((allowed, Among(KEY, Select("orgs", "parent.sourcedId", found))))
    return found


def _owned_or_taught(ids: Ids) -> Where:
    taught = Select("classes", "course.sourcedId", Among("school.sourcedId", ids))
    return AnyOf((Among("org.sourcedId", ids), Among(KEY, taught)))


def _taught_in(ids: Ids) -> Where:
    return Among(KEY, Select("classes", "course.sourcedId", Among(KEY, ids)))


def _no_student_but_of(grades: Ids) -> Where:
    folded = tuple(sorted(set(map(fold, grades))))
    return AnyOf((Not(typed("role", "student")), Among("grades", folded)))


def _enrolled_in(ids: Ids) -> Where:
    # Deleted enrollments count: consumers learn from them, and from the people in them, what to delete.
    return Among(KEY, Select("enrollments", "user.sourcedId", Among("class.sourcedId", ids)))


@dataclass(frozen=True, slots=True)
class Meaning:
    """What limits mean for a class: a condition for each kind (None: that kind does not limit it), all of which hold.

    `of` maps fields to collections: the record they name must be within the limits as well. `kept` names further
    references of records within the limits that always lead to records within them.
    """

    orgs: Limit | None = None
    grades: Limit | None = None
    classes: Limit | None = None
    of: Mapping[str, str] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()

    def where(self, limits: Limits) -> Where:
        """The records within the limits of rows."""
        found = EVERYTHING
        kinds = (self.orgs, limits.orgs), (self.grades, limits.grades), (self.classes, limits.classes)
        for limit, allowed in kinds:
            if limit is not None and allowed is not None:
                found = both(found, limit(tuple(sorted(allowed))))
        for path, collection in self.of.items():
            of = MEANINGS[collection].where(limits)
            if of is not EVERYTHING:
                found = both(found, Among(path, Select(collection, KEY, of)))
        return found


MEANINGS: Mapping[str, Meaning] = {
    "orgs": Meaning(orgs=_and_ancestors),
    "academicSessions": Meaning(),
    "resources": Meaning(),
    "courses": Meaning(orgs=_owned_or_taught, classes=_taught_in),
    "classes": Meaning(
        orgs=_among("school.sourcedId"),
        classes=_among(KEY),
        kept=frozenset({"course.sourcedId", "school.sourcedId"}),
    ),
    "users": Meaning(orgs=_among("orgs.sourcedId"), grades=_no_student_but_of, classes=_enrolled_in),
    "demographics": Meaning(of={KEY: "users"}),
    "enrollments": Meaning(
        orgs=_among("school.sourcedId"),
        of={"class.sourcedId": "classes", "user.sourcedId": "users"},
        kept=frozenset({"school.sourcedId"}),
    ),
    "categories": Meaning(),
    "lineItems": Meaning(of={"class.sourcedId": "classes"}),
    "results": Meaning(of={"lineItem.sourcedId": "lineItems", "student.sourcedId": "users"}),
}


@dataclass(frozen=True)
class _Redacted(Resource):
    """A class as a bearer knows it: without its redacted elements and paths."""

    redacted: frozenset[str] = frozenset()

    @cached_property
    def elements(self) -> dict[str, Element]:
        """The elements of which something is left."""
        return {name: each for name, each in RESOURCES[self.name].elements.items() if not covers(self.redacted, name)}

    def path(self, name: str) -> Path | None:
        """The path of that name, unless it is redacted."""
        return None if covers(self.redacted, name) else super().path(name)


class Sight:
    """What limits leave to see. There is one for equal limits, so that caches may hang on its identity."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._wheres: dict[str, Where] = {}
        self._resources: dict[str, Resource] = {}
        for name, meaning in MEANINGS.items():
            self._wheres[name] = NOTHING if name in limits.denied else meaning.where(limits)
            self._resources[name] = self._known(RESOURCES[name])
        self._tests = {
            name: where if where in (EVERYTHING, NOTHING) else Not(AnyOf((Not(where),)))
            for name, where in self._wheres.items()
        }
        self._doubtful = {name: self._leading_away(RESOURCES[name]) for name in MEANINGS}

    @property
    def redacted(self) -> frozenset[str]:
        """The redacted paths, as `Limits` holds them."""
        return self._limits.redacted

    def where(self, collection: str) -> Where:
        """The visible records of the collection."""
        return self._wheres[collection]

    def tested(self, collection: str) -> Where:
        """The same, to be asked of few records that something else finds.

        Said twice that it is not, SQLite tests those few, instead of trying each with every row that is visible (a
        hundred keys among 50,000 rows: 1.6 seconds against 20 ms).
        """
        return self._tests[collection]

    def resource(self, name: str) -> Resource:
        """The class as far as it is not redacted."""
        return self._resources[name]

    def doubtful(self, collection: str) -> Mapping[str, Reference]:
        """The references, by stored field, of visible records that may lead to what is not visible."""
        return self._doubtful[collection]

    def joined(self, where: Where) -> Where:
        """The condition of a path, with semi-joins that pass through visible records alone."""
        match where:
            case Among(path, Select(collection, of, inner)):
                return Among(path, Select(collection, of, both(self.joined(inner), self.tested(collection))))
            case Not(term):
                return Not(self.joined(term))
            case AllOf(terms):
                return AllOf(tuple(map(self.joined, terms)))
            case AnyOf(terms):
                return AnyOf(tuple(map(self.joined, terms)))
            case _:
                return where

    def filtered(self, where: Where, collection: str) -> Where:
        """The condition of a filter, for which references to what is not visible are not there."""
        doubtful = self._doubtful[collection]
        match where:
            case Compare(path, operator, value) if path in doubtful:
                target = doubtful[path].target
                found = AllOf((Compare(KEY, operator, value), self.where(target)))
                return Among(path, Select(target, KEY, found))
            case Not(term):
                return Not(self.filtered(term, collection))
            case AllOf(terms):
                return AllOf(tuple(self.filtered(term, collection) for term in terms))
            case AnyOf(terms):
                return AnyOf(tuple(self.filtered(term, collection) for term in terms))
            case _:
                return where

    def _known(self, resource: Resource) -> Resource:
        redacted = self._limits.redacted
        if not redacted:
            return resource
        return _Redacted(resource.name, resource.single, resource.schema, ignored=resource.ignored, redacted=redacted)

    def _leading_away(self, resource: Resource) -> dict[str, Reference]:
        meaning = MEANINGS[resource.name]
        return {
            each.field: each
            for each in resource.references
            if each.target in self._limits.denied
            or not (self._wheres[each.target] is EVERYTHING or each.field in meaning.kept or each.field in meaning.of)
        }


_of = lru_cache(maxsize=4096)(Sight)

OPEN = _of(UNLIMITED)


def sight(grant: Grant) -> Sight:
    """What the bearer may see; OPEN when nothing is limited."""
    return OPEN if grant.limits is UNLIMITED else _of(grant.limits)


def sight_within(limits: Limits) -> Sight:
    """What such limits leave to see."""
    return _of(limits)


def visible(grant: Grant, collection: str) -> Where:
    """The records of the collection that the bearer may know of; a condition to add to every question."""
    return sight(grant).where(collection)
