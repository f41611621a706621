"""Classes of OneRoster 1.1 as marshmallow Schemas, with fields in the order of the CSV columns.

Storage collections, filter paths, CSV headers, required values and references are derived from them (OneRoster 1.1
specification, section 4; CSV tables 1.1). `RESOURCES` has the resource types by collection, `FILES` those with a CSV
file.
"""

from __future__ import annotations

from typing import Any

from marshmallow import RAISE, Schema, fields

from chalk_flask.oneroster import vocabularies
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
    DateOrDateTimeField,
    DateTimeField,
    EmailField,
    EnumField,
    GuidField,
    NameField,
    NumberField,
    PhoneField,
    TextField,
    YearField,
)
from chalk_flask.oneroster.resource_type import ResourceType

__all__ = ["FILES", "RESOURCES"]


class Base(Schema):
    """Fields of every object."""

    class Meta:
        unknown = RAISE

    sourced_id = GuidField(required=True)
    status = EnumField(vocabularies.STATUS, former=vocabularies.FORMER_STATUS)
    date_last_modified = DateTimeField(indexed=True)
    metadata = MetadataField()

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Derive the JSON name: camel case of the Python name, without a trailing underscore."""
        first, *others = field_name.rstrip("_").split("_")
        field_obj.data_key = first + "".join(map(str.title, others))


class OrgSchema(Base):
    """Organization, from a department to a nation."""

    name = TextField(required=True)
    type = EnumField(vocabularies.ORG_TYPES, required=True, indexed=True)
    identifier = TextField()
    parent = RefField("orgs", "org")
    children = RefListField("orgs", "org", column=None, inverse="parent")


class AcademicSessionSchema(Base):
    """Span of time: a school year, semester, term or grading period."""

    title = TextField(required=True)
    type = EnumField(vocabularies.SESSION_TYPES, required=True, indexed=True)
    start_date = DateField(required=True)
    end_date = DateField(required=True)
    parent = RefField("academicSessions", "academicSession")
    school_year = YearField(required=True)
    children = RefListField("academicSessions", "academicSession", column=None, inverse="parent")


class CourseSchema(Base):
    """Course of study, taught in classes."""

    school_year = RefField("academicSessions", "academicSession")
    title = TextField(required=True)
    course_code = TextField(fallback="title")
    grades = TextListField(always_present=True, expected=vocabularies.GRADES)
    org = RefField("orgs", "org", required_in_csv=True)
    subjects = TextListField(always_present=True)
    subject_codes = TextListField()
    resources = RefListField("resources", "resource", column=None, link="courseResources")


class ClassSchema(Base):
    """Course taught to certain people in certain terms."""

    title = TextField(required=True)
    grades = TextListField(always_present=True, expected=vocabularies.GRADES)
    course = RefField("courses", "course", required=True)
    class_code = TextField()
    class_type = EnumField(vocabularies.CLASS_TYPES, required_in_csv=True)
    location = TextField()
    school = RefField("orgs", "org", required=True)
    terms = RefListField("academicSessions", "academicSession", required=True, always_present=True)
    subjects = TextListField(always_present=True)
    subject_codes = TextListField()
    periods = TextListField()
    resources = RefListField("resources", "resource", column=None, link="classResources")


class UserSchema(Base):
    """Person. The CSV column `password` is not a field, because it is neither stored nor served."""

    enabled_user = BooleanField(required=True)
    orgs = RefListField("orgs", "org", required=True, always_present=True)
    role = EnumField(vocabularies.ROLES, required=True, indexed=True)
    username = TextField(required=True, indexed=True)
    user_ids = UserIdsField()
    given_name = NameField(required=True, repeats=True)
    family_name = NameField(required=True, repeats=True)
    middle_name = NameField(repeats=True)
    identifier = TextField(indexed=True)
    email = EmailField(indexed=True)
    sms = PhoneField()
    phone = PhoneField()
    agents = RefListField("users", "user", always_present=True)
    grades = TextListField(always_present=True, expected=vocabularies.GRADES)


class DemographicsSchema(Base):
    """Demographics of a person, with the sourcedId of the user."""

    birth_date = DateField()
    sex = EnumField(vocabularies.GENDERS)
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
    """Role of a person in a class."""

    class_ = RefField("classes", "class", required=True)
    school = RefField("orgs", "org", required=True)
    user = RefField("users", "user", required=True)
    role = EnumField(vocabularies.ENROLLMENT_ROLES, required=True)
    primary = BooleanField()
    begin_date = DateField()
    end_date = DateField()


class ResourceSchema(Base):
    """Learning material."""

    vendor_resource_id = TextField(required=True)
    title = TextField()
    roles = EnumListField(vocabularies.ROLES)
    importance = EnumField(vocabularies.IMPORTANCE)
    vendor_id = TextField()
    application_id = TextField()


class ClassResourceSchema(Base):
    """Link between a class and a resource. It is served only as `resources` of the class."""

    title = TextField()
    class_ = RefField("classes", "class", required=True)
    resource = RefField("resources", "resource", required=True)


class CourseResourceSchema(Base):
    """Link between a course and a resource. It is served only as `resources` of the course."""

    title = TextField()
    course = RefField("courses", "course", required=True)
    resource = RefField("resources", "resource", required=True)


class CategorySchema(Base):
    """Kind of line item."""

    title = TextField(required=True)


class LineItemSchema(Base):
    """Piece of work that is graded."""

    title = TextField(required=True)
    description = TextField()
    assign_date = DateOrDateTimeField(required=True)
    due_date = DateOrDateTimeField(required=True)
    class_ = RefField("classes", "class", required=True)
    category = RefField("categories", "category", required=True)
    grading_period = RefField("academicSessions", "academicSession")
    result_value_min = NumberField(required=True)
    result_value_max = NumberField(required=True)


class ResultSchema(Base):
    """Student's grade for a line item."""

    line_item = RefField("lineItems", "lineItem", required=True)
    student = RefField("users", "user", required=True)
    score_status = EnumField(vocabularies.SCORE_STATUS, required=True)
    score = NumberField(optional_if=("scoreStatus", vocabularies.STATUS_WITHOUT_SCORE))
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
"""Resource types of the thirteen data files of a CSV package, by name. Link files precede the files they extend."""

RESOURCES: dict[str, ResourceType] = {name: resource for name, resource in FILES.items() if resource.served}
"""Resource types that the API serves, eleven in total, by collection."""
