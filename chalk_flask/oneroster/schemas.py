"""Every class of OneRoster 1.1, declared once: one marshmallow Schema each, in the order of its CSV columns.

From these come the storage collections, the filterable paths and their types, the CSV headers and requirement flags,
and the targets of references (Specification 1.1, section 4; CSV Tables 1.1; digest sections 6 and 8.4).
"""

from __future__ import annotations

from typing import Any

from marshmallow import RAISE, Schema, fields

from chalk_flask.oneroster import vocabularies as words
from chalk_flask.oneroster.fields.composites import Metadata, Ref, Refs, Texts, Tokens, UserIds
from chalk_flask.oneroster.fields.scalars import Date, DateTime, DayTime, Flag, Guid, Number, Text, Token, Year
from chalk_flask.oneroster.resource_type import Resource

__all__ = ["FILES", "RESOURCES"]


class Base(Schema):
    """What every object has."""

    class Meta:
        unknown = RAISE

    sourced_id = Guid(required=True)
    status = Token(words.STATUS, former=words.FORMER_STATUS)
    date_last_modified = DateTime(indexed=True)
    metadata = Metadata()

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Python's names are the standard's in snake case; a trailing underscore avoids a keyword."""
        first, *others = field_name.rstrip("_").split("_")
        field_obj.data_key = first + "".join(map(str.title, others))


class OrgSchema(Base):
    """An organisation, from a department to a nation."""

    name = Text(required=True)
    type = Token(words.ORG_TYPES, required=True, indexed=True)
    identifier = Text()
    parent = Ref("orgs", "org")
    children = Refs("orgs", "org", column=None, inverse="parent")


class AcademicSessionSchema(Base):
    """A span of time: a school year, semester, term or grading period."""

    title = Text(required=True)
    type = Token(words.SESSION_TYPES, required=True, indexed=True)
    start_date = Date(required=True)
    end_date = Date(required=True)
    parent = Ref("academicSessions", "academicSession")
    school_year = Year(required=True)
    children = Refs("academicSessions", "academicSession", column=None, inverse="parent")


class CourseSchema(Base):
    """A course of study, taught in classes."""

    school_year = Ref("academicSessions", "academicSession")
    title = Text(required=True)
    course_code = Text(fallback="title")
    grades = Texts(always=True, expected=words.GRADES)
    org = Ref("orgs", "org", in_csv=True)
    subjects = Texts(always=True)
    subject_codes = Texts()
    resources = Refs("resources", "resource", column=None, link="courseResources")


class ClassSchema(Base):
    """A course taught to certain people in certain terms."""

    title = Text(required=True)
    grades = Texts(always=True, expected=words.GRADES)
    course = Ref("courses", "course", required=True)
    class_code = Text()
    class_type = Token(words.CLASS_TYPES, in_csv=True)
    location = Text()
    school = Ref("orgs", "org", required=True)
    terms = Refs("academicSessions", "academicSession", required=True, always=True)
    subjects = Texts(always=True)
    subject_codes = Texts()
    periods = Texts()
    resources = Refs("resources", "resource", column=None, link="classResources")


class UserSchema(Base):
    """A person. `password` is a CSV column that is neither stored nor served, hence no element."""

    enabled_user = Flag(required=True)
    orgs = Refs("orgs", "org", required=True, always=True)
    role = Token(words.ROLES, required=True, indexed=True)
    username = Text(required=True, indexed=True)
    user_ids = UserIds()
    given_name = Text(required=True, repeats=True)
    family_name = Text(required=True, repeats=True)
    middle_name = Text(repeats=True)
    identifier = Text(indexed=True)
    email = Text(indexed=True)
    sms = Text()
    phone = Text()
    agents = Refs("users", "user", always=True)
    grades = Texts(always=True, expected=words.GRADES)


class DemographicsSchema(Base):
    """Sensitive facts about a person; shares the sourcedId of the user."""

    birth_date = Date()
    sex = Token(words.GENDERS)
    american_indian_or_alaska_native = Flag()
    asian = Flag()
    black_or_african_american = Flag()
    native_hawaiian_or_other_pacific_islander = Flag()
    white = Flag()
    demographic_race_two_or_more_races = Flag()
    hispanic_or_latino_ethnicity = Flag()
    country_of_birth_code = Text(repeats=True)
    state_of_birth_abbreviation = Text(repeats=True)
    city_of_birth = Text()
    public_school_residence_status = Text(repeats=True)


class EnrollmentSchema(Base):
    """A person's part in a class."""

    class_ = Ref("classes", "class", required=True)
    school = Ref("orgs", "org", required=True)
    user = Ref("users", "user", required=True)
    role = Token(words.ENROLLMENT_ROLES, required=True)
    primary = Flag()
    begin_date = Date()
    end_date = Date()


class ResourceSchema(Base):
    """Learning material."""

    vendor_resource_id = Text(required=True)
    title = Text()
    roles = Tokens(words.ROLES)
    importance = Token(words.IMPORTANCE)
    vendor_id = Text()
    application_id = Text()


class ClassResourceSchema(Base):
    """A row that gives a class a resource; kept, served only as the class's `resources`."""

    title = Text()
    class_ = Ref("classes", "class", required=True)
    resource = Ref("resources", "resource", required=True)


class CourseResourceSchema(Base):
    """A row that gives a course a resource; kept, served only as the course's `resources`."""

    title = Text()
    course = Ref("courses", "course", required=True)
    resource = Ref("resources", "resource", required=True)


class CategorySchema(Base):
    """A kind of line item."""

    title = Text(required=True)


class LineItemSchema(Base):
    """A piece of work that is graded."""

    title = Text(required=True)
    description = Text()
    assign_date = DayTime(required=True)
    due_date = DayTime(required=True)
    class_ = Ref("classes", "class", required=True)
    category = Ref("categories", "category", required=True)
    grading_period = Ref("academicSessions", "academicSession")
    result_value_min = Number(required=True)
    result_value_max = Number(required=True)


class ResultSchema(Base):
    """A student's grade for a line item."""

    line_item = Ref("lineItems", "lineItem", required=True)
    student = Ref("users", "user", required=True)
    score_status = Token(words.SCORE_STATUS, required=True)
    score = Number(unless=("scoreStatus", "exempt"))
    score_date = Date(required=True)
    comment = Text()


FILES: dict[str, Resource] = {
    resource.name: resource
    for resource in (
        Resource("orgs", "org", OrgSchema()),
        Resource("academicSessions", "academicSession", AcademicSessionSchema()),
        Resource("resources", "resource", ResourceSchema()),
        Resource("courseResources", "courseResource", CourseResourceSchema(), served=False),
        Resource("classResources", "classResource", ClassResourceSchema(), served=False),
        Resource("courses", "course", CourseSchema()),
        Resource("classes", "class", ClassSchema()),
        Resource("users", "user", UserSchema(), ignored=("password",)),
        Resource(
            "demographics",
            "demographics",
            DemographicsSchema(),
            key_of="users",
            former_columns=(("userSourcedId", "sourcedId"), ("birthdate", "birthDate")),
        ),
        Resource("enrollments", "enrollment", EnrollmentSchema()),
        Resource("categories", "category", CategorySchema()),
        Resource("lineItems", "lineItem", LineItemSchema()),
        Resource("results", "result", ResultSchema()),
    )
}
"""The thirteen data files of a CSV package by name. Links come before what they are folded into."""

RESOURCES: dict[str, Resource] = {name: resource for name, resource in FILES.items() if resource.served}
"""The eleven classes that the API serves, by the name of their collection."""
