"""Every class of OneRoster 1.1, declared once: one marshmallow Schema each, in the order of its CSV columns.

From these come the storage collections, the filterable paths and their types, the CSV headers and requirement flags,
and the targets of references (Specification 1.1, section 4; CSV Tables 1.1; digest sections 6 and 8.4).
"""

from __future__ import annotations

from typing import Any

from marshmallow import RAISE, Schema, fields

from chalk_flask.oneroster import vocabularies as words
from chalk_flask.oneroster.fields.composites import (
    EnumListField,
    MetadataField,
    RefField,
    RefListField,
    TextListField,
    UserIdsField,
)
from chalk_flask.oneroster.fields.scalars import (
    BooleanField,
    DateField,
    DateTimeField,
    DayOrInstantField,
    EnumField,
    GuidField,
    NumberField,
    TextField,
    YearField,
)
from chalk_flask.oneroster.resource_type import ResourceType

__all__ = ["FILES", "RESOURCES"]


class Base(Schema):
    """What every object has."""

    class Meta:
        unknown = RAISE

    sourced_id = GuidField(required=True)
    status = EnumField(words.STATUS, former=words.FORMER_STATUS)
    date_last_modified = DateTimeField(indexed=True)
    metadata = MetadataField()

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Python's names are the standard's in snake case; a trailing underscore avoids a keyword."""
        first, *others = field_name.rstrip("_").split("_")
        field_obj.data_key = first + "".join(map(str.title, others))


class OrgSchema(Base):
    """An organisation, from a department to a nation."""

    name = TextField(required=True)
    type = EnumField(words.ORG_TYPES, required=True, indexed=True)
    identifier = TextField()
    parent = RefField("orgs", "org")
    children = RefListField("orgs", "org", column=None, inverse="parent")


class AcademicSessionSchema(Base):
    """A span of time: a school year, semester, term or grading period."""

    title = TextField(required=True)
    type = EnumField(words.SESSION_TYPES, required=True, indexed=True)
    start_date = DateField(required=True)
    end_date = DateField(required=True)
    parent = RefField("academicSessions", "academicSession")
    school_year = YearField(required=True)
    children = RefListField("academicSessions", "academicSession", column=None, inverse="parent")


class CourseSchema(Base):
    """A course of study, taught in classes."""

    school_year = RefField("academicSessions", "academicSession")
    title = TextField(required=True)
    course_code = TextField(fallback="title")
    grades = TextListField(always=True, expected=words.GRADES)
    org = RefField("orgs", "org", in_csv=True)
    subjects = TextListField(always=True)
    subject_codes = TextListField()
    resources = RefListField("resources", "resource", column=None, link="courseResources")


class ClassSchema(Base):
    """A course taught to certain people in certain terms."""

    title = TextField(required=True)
    grades = TextListField(always=True, expected=words.GRADES)
    course = RefField("courses", "course", required=True)
    class_code = TextField()
    class_type = EnumField(words.CLASS_TYPES, in_csv=True)
    location = TextField()
    school = RefField("orgs", "org", required=True)
    terms = RefListField("academicSessions", "academicSession", required=True, always=True)
    subjects = TextListField(always=True)
    subject_codes = TextListField()
    periods = TextListField()
    resources = RefListField("resources", "resource", column=None, link="classResources")


class UserSchema(Base):
    """A person. `password` is a CSV column that is neither stored nor served, hence no element."""

    enabled_user = BooleanField(required=True)
    orgs = RefListField("orgs", "org", required=True, always=True)
    role = EnumField(words.ROLES, required=True, indexed=True)
    username = TextField(required=True, indexed=True)
    user_ids = UserIdsField()
    given_name = TextField(required=True, repeats=True)
    family_name = TextField(required=True, repeats=True)
    middle_name = TextField(repeats=True)
    identifier = TextField(indexed=True)
    email = TextField(indexed=True)
    sms = TextField()
    phone = TextField()
    agents = RefListField("users", "user", always=True)
    grades = TextListField(always=True, expected=words.GRADES)


class DemographicsSchema(Base):
    """Sensitive facts about a person; shares the sourcedId of the user."""

    birth_date = DateField()
    sex = EnumField(words.GENDERS)
    american_indian_or_alaska_native = BooleanField()
    asian = BooleanField()
    black_or_african_american = BooleanField()
    native_hawaiian_or_other_pacific_islander = BooleanField()
    white = BooleanField()
    demographic_race_two_or_more_races = BooleanField()
    hispanic_or_latino_ethnicity = BooleanField()
    country_of_birth_code = TextField(repeats=True)
    state_of_birth_abbreviation = TextField(repeats=True)
    city_of_birth = TextField()
    public_school_residence_status = TextField(repeats=True)


class EnrollmentSchema(Base):
    """A person's part in a class."""

    class_ = RefField("classes", "class", required=True)
    school = RefField("orgs", "org", required=True)
    user = RefField("users", "user", required=True)
    role = EnumField(words.ENROLLMENT_ROLES, required=True)
    primary = BooleanField()
    begin_date = DateField()
    end_date = DateField()


class ResourceSchema(Base):
    """Learning material."""

    vendor_resource_id = TextField(required=True)
    title = TextField()
    roles = EnumListField(words.ROLES)
    importance = EnumField(words.IMPORTANCE)
    vendor_id = TextField()
    application_id = TextField()


class ClassResourceSchema(Base):
    """A row that gives a class a resource; kept, served only as the class's `resources`."""

    title = TextField()
    class_ = RefField("classes", "class", required=True)
    resource = RefField("resources", "resource", required=True)


class CourseResourceSchema(Base):
    """A row that gives a course a resource; kept, served only as the course's `resources`."""

    title = TextField()
    course = RefField("courses", "course", required=True)
    resource = RefField("resources", "resource", required=True)


class CategorySchema(Base):
    """A kind of line item."""

    title = TextField(required=True)


class LineItemSchema(Base):
    """A piece of work that is graded."""

    title = TextField(required=True)
    description = TextField()
    assign_date = DayOrInstantField(required=True)
    due_date = DayOrInstantField(required=True)
    class_ = RefField("classes", "class", required=True)
    category = RefField("categories", "category", required=True)
    grading_period = RefField("academicSessions", "academicSession")
    result_value_min = NumberField(required=True)
    result_value_max = NumberField(required=True)


class ResultSchema(Base):
    """A student's grade for a line item."""

    line_item = RefField("lineItems", "lineItem", required=True)
    student = RefField("users", "user", required=True)
    score_status = EnumField(words.SCORE_STATUS, required=True)
    score = NumberField(unless=("scoreStatus", "exempt"))
    score_date = DateField(required=True)
    comment = TextField()


FILES: dict[str, ResourceType] = {
    resource.name: resource
    for resource in (
        ResourceType("orgs", "org", OrgSchema()),
        ResourceType("academicSessions", "academicSession", AcademicSessionSchema()),
        ResourceType("resources", "resource", ResourceSchema()),
        ResourceType("courseResources", "courseResource", CourseResourceSchema(), served=False),
        ResourceType("classResources", "classResource", ClassResourceSchema(), served=False),
        ResourceType("courses", "course", CourseSchema()),
        ResourceType("classes", "class", ClassSchema()),
        ResourceType("users", "user", UserSchema(), ignored=("password",)),
        ResourceType(
            "demographics",
            "demographics",
            DemographicsSchema(),
            shares_ids_with="users",
            former_columns=(("userSourcedId", "sourcedId"), ("birthdate", "birthDate")),
        ),
        ResourceType("enrollments", "enrollment", EnrollmentSchema()),
        ResourceType("categories", "category", CategorySchema()),
        ResourceType("lineItems", "lineItem", LineItemSchema()),
        ResourceType("results", "result", ResultSchema()),
    )
}
"""The thirteen data files of a CSV package by name. Links come before what they are folded into."""

RESOURCES: dict[str, ResourceType] = {name: resource for name, resource in FILES.items() if resource.served}
"""The eleven classes that the API serves, by the name of their collection."""
