"""Table of the collections that the roster browser shows, derived from the routes of the API and the schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from werkzeug.exceptions import NotFound

from chalk_flask.api.routes import READ_ROUTES, ReadRoute
from chalk_flask.oneroster.fields.composites import MetadataField, RefField, TextListField
from chalk_flask.oneroster.fields.scalars import (
    DateOrDateTimeField,
    DateTimeField,
    GuidField,
    NumberField,
    OneRosterField,
)
from chalk_flask.oneroster.resource_type import ResourceType

__all__ = [
    "BY_RESOURCE_TYPE",
    "COLLECTIONS",
    "NESTED",
    "BrowsedCollection",
    "Column",
    "column_of",
    "find_collection",
    "find_nested",
    "label_of",
    "title_of",
]

DEMOGRAPHICS = "demographics"

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LABELS = {
    "sourcedId": "Id",
    "dateLastModified": "Changed",
    "sms": "SMS",
    "org": "Organization",
    "agents": "Agents, such as guardians",
    "americanIndianOrAlaskaNative": "American Indian or Alaska Native",
    "blackOrAfricanAmerican": "Black or African American",
    "nativeHawaiianOrOtherPacificIslander": "Native Hawaiian or Other Pacific Islander",
    "demographicRaceTwoOrMoreRaces": "Two or more races",
    "hispanicOrLatinoEthnicity": "Hispanic or Latino ethnicity",
}
"""Labels of the names whose words are not enough."""
_SUMMARIES: Mapping[str, str] = {
    "academicSessions": "School years, semesters, terms and grading periods",
    "categories": "Kinds of graded work",
    "classes": "Courses as they are taught",
    "courses": "Courses of study",
    "demographics": "Sensitive data of people; each view is recorded in the audit log",
    "enrollments": "Who attends or teaches which class",
    "gradingPeriods": "Academic sessions of the type gradingPeriod",
    "lineItems": "Pieces of graded work",
    "orgs": "Districts, schools, departments and other organizations",
    "resources": "Learning material",
    "results": "Grades of students",
    "schools": "Orgs of the type school",
    "students": "Users with the role student",
    "teachers": "Users with the role teacher",
    "terms": "Semesters and terms",
    "users": "All people: students, staff and guardians",
}


@dataclass(frozen=True, slots=True)
class Presentation:
    """Fields of a resource type that pages show.

    `title` are the fields that name a record, joined by a blank; a record without them is named by its id. `columns`
    are those of a list. `search` are the one or two fields that the search box compares. `is_large` is True if a roster
    has many more of these records than people. The list can then be sorted by id only, because any other order makes
    the store sort all records.
    """

    title: tuple[str, ...]
    columns: tuple[str, ...]
    search: tuple[str, ...]
    is_large: bool = False

    @property
    def first_is_link(self) -> bool:
        """True if the first column names the record and links to its page. Otherwise the id links to it."""
        return bool(self.title)


_PRESENTATIONS: Mapping[str, Presentation] = {
    "academicSessions": Presentation(
        ("title",), ("title", "type", "startDate", "endDate", "schoolYear", "parent"), ("title", "sourcedId")
    ),
    "categories": Presentation(("title",), ("title",), ("title", "sourcedId")),
    "classes": Presentation(
        ("title",), ("title", "classCode", "course", "school", "terms", "grades"), ("title", "classCode")
    ),
    "courses": Presentation(("title",), ("title", "courseCode", "org", "grades", "subjects"), ("title", "courseCode")),
    "demographics": Presentation((), ("birthDate", "sex"), ("sourcedId",)),
    "enrollments": Presentation(
        (),
        ("user", "role", "class", "school", "beginDate", "endDate"),
        ("user.sourcedId", "class.sourcedId"),
        is_large=True,
    ),
    "lineItems": Presentation(
        ("title",), ("title", "class", "category", "dueDate", "resultValueMax"), ("title", "description")
    ),
    "orgs": Presentation(("name",), ("name", "type", "identifier", "parent"), ("name", "identifier")),
    "resources": Presentation(
        ("title",), ("title", "vendorResourceId", "importance", "roles"), ("title", "vendorResourceId")
    ),
    "results": Presentation(
        (),
        ("student", "lineItem", "score", "scoreStatus", "scoreDate"),
        ("student.sourcedId", "comment"),
        is_large=True,
    ),
    "users": Presentation(
        ("givenName", "familyName"),
        ("familyName", "givenName", "role", "email", "grades", "orgs"),
        ("familyName", "email"),
    ),
}


@dataclass(frozen=True, slots=True)
class Column:
    """Column of a list. `is_sortable` is False for references and lists, whose order is of no use.

    It is False too if sorting would take long.
    """

    name: str
    label: str
    is_numeric: bool
    is_sortable: bool
    kind: str


_EQUAL_FIELDS: Mapping[str, str] = {
    "gradingPeriods": "type",
    "schools": "type",
    "students": "role",
    "teachers": "role",
}
"""Field by the name of a collection whose records all have the same value in it. Lists omit the column."""


@dataclass(frozen=True)
class BrowsedCollection:
    """Collection of the API with a page: a resource type, or some of its records such as `students`."""

    name: str
    resource_type: ResourceType

    @cached_property
    def label(self) -> str:
        """Heading of its page."""
        return label_of(self.name)

    @property
    def summary(self) -> str:
        """Sentence that says what it contains."""
        return _SUMMARIES[self.name]

    @property
    def presentation(self) -> Presentation:
        """Fields that pages show."""
        return _PRESENTATIONS[self.resource_type.name]

    @property
    def is_demographics(self) -> bool:
        """True if only administrators with a permission see its records, and each view is recorded."""
        return self.resource_type.name == DEMOGRAPHICS

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Columns of its list; the id and the time of the last change follow those of the presentation."""
        names = dict.fromkeys((*self.presentation.columns, "sourcedId", "dateLastModified"))
        names.pop(_EQUAL_FIELDS.get(self.name, ""), None)
        fields, is_large = self.resource_type.fields, self.presentation.is_large
        return tuple(column_of(name, fields[name], sorts_by_id_only=is_large) for name in names)


def column_of(name: str, field: OneRosterField, *, sorts_by_id_only: bool = False) -> Column:
    """Return the column of a field. With `sorts_by_id_only`, it sorts only if it contains the ids of the records."""
    is_sortable = not isinstance(field, RefField | TextListField | MetadataField)
    is_sortable &= not sorts_by_id_only or isinstance(field, GuidField)
    return Column(name, label_of(name), isinstance(field, NumberField), is_sortable, kind_of(field))


def kind_of(field: OneRosterField) -> str:
    """Return how pages show the values of a field: `reference`, `id`, `time`, `number` or `text`.

    Dates stay text, because the zone of the reader must not move them to another day.
    """
    kinds = (
        (RefField, "reference"),
        (GuidField, "id"),
        (DateOrDateTimeField, "text"),
        (DateTimeField, "time"),
        (NumberField, "number"),
    )
    return next((kind for base, kind in kinds if isinstance(field, base)), "text")


def label_of(name: str) -> str:
    """Return the words of a name in camel case: `Family name` for `familyName`."""
    words = _WORD_START.sub(" ", name).lower()
    return _LABELS.get(name, words[:1].upper() + words[1:])


def title_of(name: str, record: Mapping[str, Any]) -> str:
    """Return the text that names a record of a resource type, or its id."""
    values = (str(record.get(field, "")) for field in _PRESENTATIONS[name].title)
    return " ".join(value for value in values if value).strip() or str(record.get("sourcedId", ""))


def _collections() -> Iterator[BrowsedCollection]:
    for route in READ_ROUTES:
        if route.is_collection and not route.parents:
            yield BrowsedCollection(route.path.removeprefix("/"), route.resource_type)


COLLECTIONS: Mapping[str, BrowsedCollection] = {collection.name: collection for collection in _collections()}
"""Collections by the last part of their path, in the order of the route table."""

BY_RESOURCE_TYPE: Mapping[str, BrowsedCollection] = {
    name: collection for name, collection in COLLECTIONS.items() if name == collection.resource_type.name
}
"""Collections that contain all records of a resource type, by its name."""

NESTED: Mapping[tuple[str, str], ReadRoute] = {
    (route.path.split("/")[1], route.path.rpartition("/")[2]): route
    for route in READ_ROUTES
    if route.is_collection and len(route.parents) == 1
}
"""Collections below one record, such as `/classes/{class_id}/students`, by both names."""


def find_collection(name: str) -> BrowsedCollection:
    """Return the collection of this name. Raises NotFound."""
    return COLLECTIONS[name] if name in COLLECTIONS else _raise_not_found()


def find_nested(name: str, below: str) -> BrowsedCollection:
    """Return the collection that the API serves as `below` under a record of a collection. Raises NotFound."""
    route = NESTED.get((name, below)) or _raise_not_found()
    return BrowsedCollection(below, route.resource_type)


def _raise_not_found() -> NoReturn:
    raise NotFound
