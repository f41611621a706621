"""What limits leave of each collection: one table of conditions, and what follows for paths, filters and sorts.

The rows a bearer may see are a condition of the query tree (design section 6), so totals, pages, parents and semi-joins
know nothing else. What a limit means for each class is the table MEANINGS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeAlias

from backends import KEY, MATCH_ALL, And, Compare, In, Not, Or, Subquery, Where
from chalk_flask.oneroster.fields.scalars import FilterPath, OneRosterField, fold
from chalk_flask.oneroster.relations import MATCH_NONE, and_, has_type
from chalk_flask.oneroster.resource_type import Reference, ResourceType
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.principal import Principal
from chalk_flask.permissions.restrictions import NO_RESTRICTIONS, AccessRestrictions, is_redacted

__all__ = ["ROW_RULES", "UNRESTRICTED", "AccessPolicy", "RowRule", "policy_for", "policy_for_restrictions", "visible"]

Ids: TypeAlias = tuple[str, ...]
RowCondition: TypeAlias = Callable[[Ids], Where]

GENERATIONS = 8
"""How far above an allowed org its ancestors are visible; the standard has six types of orgs."""


def _among(path: str) -> RowCondition:
    return lambda ids: In(path, ids)


def _and_ancestors(ids: Ids) -> Where:
    """The allowed orgs and those above them."""
    allowed: Where = In(KEY, ids)
    found = allowed
    for _ in range(GENERATIONS):
        found = Or((allowed, In(KEY, Subquery("orgs", "parent.sourcedId", found))))
    return found


def _owned_or_taught(ids: Ids) -> Where:
    taught = Subquery("classes", "course.sourcedId", In("school.sourcedId", ids))
    return Or((In("org.sourcedId", ids), In(KEY, taught)))


def _taught_in(ids: Ids) -> Where:
    return In(KEY, Subquery("classes", "course.sourcedId", In(KEY, ids)))


def _no_student_but_of(grades: Ids) -> Where:
    folded = tuple(sorted(set(map(fold, grades))))
    return Or((Not(has_type("role", "student")), In("grades", folded)))


def _enrolled_in(ids: Ids) -> Where:
    # Deleted enrollments count: consumers learn from them, and from the people in them, what to delete.
    return In(KEY, Subquery("enrollments", "user.sourcedId", In("class.sourcedId", ids)))


@dataclass(frozen=True, slots=True)
class RowRule:
    """What limits mean for a class: a condition for each kind (None: that kind does not limit it), all of which hold.

    `of` maps fields to collections: the record they name must be within the limits as well. `kept` names further
    references of records within the limits that always lead to records within them.
    """

    orgs: RowCondition | None = None
    grades: RowCondition | None = None
    classes: RowCondition | None = None
    through: Mapping[str, str] = field(default_factory=dict)
    always_visible: frozenset[str] = frozenset()

    def condition(self, limits: AccessRestrictions) -> Where:
        """The records within the limits of rows."""
        found = MATCH_ALL
        kinds = (self.orgs, limits.orgs), (self.grades, limits.grades), (self.classes, limits.classes)
        for limit, allowed in kinds:
            if limit is not None and allowed is not None:
                found = and_(found, limit(tuple(sorted(allowed))))
        for path, collection in self.through.items():
            of = ROW_RULES[collection].condition(limits)
            if of is not MATCH_ALL:
                found = and_(found, In(path, Subquery(collection, KEY, of)))
        return found


ROW_RULES: Mapping[str, RowRule] = {
    "orgs": RowRule(orgs=_and_ancestors),
    "academicSessions": RowRule(),
    "resources": RowRule(),
    "courses": RowRule(orgs=_owned_or_taught, classes=_taught_in),
    "classes": RowRule(
        orgs=_among("school.sourcedId"),
        classes=_among(KEY),
        always_visible=frozenset({"course.sourcedId", "school.sourcedId"}),
    ),
    "users": RowRule(orgs=_among("orgs.sourcedId"), grades=_no_student_but_of, classes=_enrolled_in),
    "demographics": RowRule(through={KEY: "users"}),
    "enrollments": RowRule(
        orgs=_among("school.sourcedId"),
        through={"class.sourcedId": "classes", "user.sourcedId": "users"},
        always_visible=frozenset({"school.sourcedId"}),
    ),
    "categories": RowRule(),
    "lineItems": RowRule(through={"class.sourcedId": "classes"}),
    "results": RowRule(through={"lineItem.sourcedId": "lineItems", "student.sourcedId": "users"}),
}


@dataclass(frozen=True)
class _RedactedType(ResourceType):
    """A class as a bearer knows it: without its redacted elements and paths."""

    redacted: frozenset[str] = frozenset()

    @cached_property
    def fields(self) -> dict[str, OneRosterField]:
        """The elements of which something is left."""
        return {
            name: each for name, each in RESOURCES[self.name].fields.items() if not is_redacted(self.redacted, name)
        }

    def filter_path(self, name: str) -> FilterPath | None:
        """The path of that name, unless it is redacted."""
        return None if is_redacted(self.redacted, name) else super().filter_path(name)


class AccessPolicy:
    """What limits leave to see. There is one for equal limits, so that caches may hang on its identity."""

    def __init__(self, limits: AccessRestrictions) -> None:
        self._limits = limits
        self._wheres: dict[str, Where] = {}
        self._resources: dict[str, ResourceType] = {}
        for name, meaning in ROW_RULES.items():
            self._wheres[name] = MATCH_NONE if name in limits.denied else meaning.condition(limits)
            self._resources[name] = self._known(RESOURCES[name])
        self._tests = {
            name: where if where in (MATCH_ALL, MATCH_NONE) else Not(Or((Not(where),)))
            for name, where in self._wheres.items()
        }
        self._doubtful = {name: self._leading_away(RESOURCES[name]) for name in ROW_RULES}

    @property
    def redacted(self) -> frozenset[str]:
        """The redacted paths, as `Limits` holds them."""
        return self._limits.redacted

    def rows(self, collection: str) -> Where:
        """The visible records of the collection."""
        return self._wheres[collection]

    def rows_hinted(self, collection: str) -> Where:
        """The same, to be asked of few records that something else finds.

        Said twice that it is not, SQLite tests those few, instead of trying each with every row that is visible (a
        hundred keys among 50,000 rows: 1.6 seconds against 20 ms).
        """
        return self._tests[collection]

    def resource_type(self, name: str) -> ResourceType:
        """The class as far as it is not redacted."""
        return self._resources[name]

    def hideable_references(self, collection: str) -> Mapping[str, Reference]:
        """The references, by stored field, of visible records that may lead to what is not visible."""
        return self._doubtful[collection]

    def restrict_subqueries(self, where: Where) -> Where:
        """The condition of a path, with semi-joins that pass through visible records alone."""
        match where:
            case In(path, Subquery(collection, of, inner)):
                return In(
                    path, Subquery(collection, of, and_(self.restrict_subqueries(inner), self.rows_hinted(collection)))
                )
            case Not(term):
                return Not(self.restrict_subqueries(term))
            case And(terms):
                return And(tuple(map(self.restrict_subqueries, terms)))
            case Or(terms):
                return Or(tuple(map(self.restrict_subqueries, terms)))
            case _:
                return where

    def restrict_filter(self, where: Where, collection: str) -> Where:
        """The condition of a filter, for which references to what is not visible are not there."""
        doubtful = self._doubtful[collection]
        match where:
            case Compare(path, operator, value) if path in doubtful:
                target = doubtful[path].target
                found = And((Compare(KEY, operator, value), self.rows(target)))
                return In(path, Subquery(target, KEY, found))
            case Not(term):
                return Not(self.restrict_filter(term, collection))
            case And(terms):
                return And(tuple(self.restrict_filter(term, collection) for term in terms))
            case Or(terms):
                return Or(tuple(self.restrict_filter(term, collection) for term in terms))
            case _:
                return where

    def _known(self, resource: ResourceType) -> ResourceType:
        redacted = self._limits.redacted
        if not redacted:
            return resource
        return _RedactedType(
            resource.name, resource.singular_name, resource.schema, ignored=resource.ignored, redacted=redacted
        )

    def _leading_away(self, resource: ResourceType) -> dict[str, Reference]:
        meaning = ROW_RULES[resource.name]
        return {
            each.field: each
            for each in resource.references
            if each.target in self._limits.denied
            or not (
                self._wheres[each.target] is MATCH_ALL
                or each.field in meaning.always_visible
                or each.field in meaning.through
            )
        }


_of = lru_cache(maxsize=4096)(AccessPolicy)

UNRESTRICTED = _of(NO_RESTRICTIONS)


def policy_for(principal: Principal) -> AccessPolicy:
    """What the bearer may see; OPEN when nothing is limited."""
    return UNRESTRICTED if principal.restrictions is NO_RESTRICTIONS else _of(principal.restrictions)


def policy_for_restrictions(restrictions: AccessRestrictions) -> AccessPolicy:
    """What such limits leave to see."""
    return _of(restrictions)


def visible(grant: Principal, collection: str) -> Where:
    """The records of the collection that the bearer may know of; a condition to add to every question."""
    return policy_for(grant).rows(collection)
