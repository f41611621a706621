"""Tables of routes: one row per operation of OneRoster 1.1, reads in `READ_ROUTES` and writes in `WRITE_ROUTES`.

docs/reference/api.md lists the same operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from backends import KEY, MATCH_ALL, Compare, Snapshot, Where, and_
from chalk_flask.oneroster.relations import (
    IS_TERM,
    Condition,
    Ids,
    PathParent,
    categories_of_class,
    classes_of_user,
    courses_of_school,
    grading_periods_of_term,
    has_type,
    listed_in,
    references,
    results_of_class,
    results_of_student,
    term_or_session_of_classes,
    terms_of_school,
    users_enrolled_in_class,
    users_of_school,
)
from chalk_flask.oneroster.resource_type import ResourceType
from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.permissions.scopes import (
    DEMOGRAPHICS,
    GRADEBOOK,
    GRADEBOOK_DELETE,
    GRADEBOOK_WRITE,
    RESOURCE,
    ROSTER,
    ROSTER_CORE,
    SATISFIED_BY,
)

__all__ = ["GRADEBOOK_COLLECTIONS", "READ_ROUTES", "ROOTS", "WRITE_ROUTES", "ApiRoot", "ReadRoute", "WriteRoute"]


@dataclass(frozen=True, slots=True, eq=False)
class ApiRoot:
    """Path under which every route is served.

    `default_limit` is the page size of requests without `limit` (0: the whole collection). On a `read_only`
    root, writes of callers without a write scope get 405 (docs/conformance, W-01).
    """

    name: str
    path: str
    default_limit: int
    read_only: bool = False


ROOTS = (ApiRoot("chalk", "/api/oneroster/v1p1", 0, read_only=True), ApiRoot("ims", "/ims/oneroster/v1p1", 100))


def _with_alias(path: str) -> tuple[str, ...]:
    alias = path.replace("/lineItems", "/lineitems")
    return (path,) if alias == path else (path, alias)


@dataclass(frozen=True, slots=True, eq=False)
class ReadRoute:
    """Read operation.

    The ids in the path are those of `parents`, in the same order. The last id of a single read is that of the object.
    `follows` is a field that `where` reads beforehand: a caller that cannot see it finds nothing (L-07).
    """

    operation: str
    path: str
    resource_type: ResourceType
    scope: str
    where: Condition | Where = MATCH_ALL
    parents: tuple[PathParent, ...] = ()
    follows: str = ""

    @property
    def is_collection(self) -> bool:
        """True if the response is a collection."""
        return not self.path.endswith("}")

    @property
    def scopes(self) -> list[str]:
        """Scopes of which the caller needs one."""
        return sorted(SATISFIED_BY[self.scope])

    @property
    def paths(self) -> tuple[str, ...]:
        """Path and its alias with `lineitems` (docs/conformance, N-07)."""
        return _with_alias(self.path)

    def parents_exist(self, snapshot: Snapshot, ids: Ids, visible_rows: Callable[[str], Where]) -> bool:
        """Return True if every parent is visible, is of its type and belongs to the parent before it.

        `visible_rows` returns the row condition of a collection.
        """
        return all(parent.exists(snapshot, ids, position, visible_rows) for position, parent in enumerate(self.parents))

    def condition(self, snapshot: Snapshot, ids: Ids) -> Where:
        """Return the condition that selects the records of the path."""
        where = self.where(snapshot, ids) if callable(self.where) else self.where
        return where if self.is_collection else and_(Compare(KEY, "=", ids[-1]), where)


SESSIONS, CLASSES, COURSES = RESOURCES["academicSessions"], RESOURCES["classes"], RESOURCES["courses"]
DEMOGRAPHICS_TYPE, ENROLLMENTS = RESOURCES["demographics"], RESOURCES["enrollments"]
ORGS, USERS, RESOURCES_TYPE = RESOURCES["orgs"], RESOURCES["users"], RESOURCES["resources"]
CATEGORIES, LINE_ITEMS, RESULTS = RESOURCES["categories"], RESOURCES["lineItems"], RESOURCES["results"]

GRADEBOOK_COLLECTIONS = frozenset({"categories", "lineItems", "results"})
"""Collections whose deleted objects are hidden unless the filter selects them (docs/conformance, A-04)."""

IS_GRADING_PERIOD = has_type("type", "gradingPeriod")
IS_SCHOOL, IS_STUDENT, IS_TEACHER = has_type("type", "school"), has_type("role", "student"), has_type("role", "teacher")

SCHOOL_PARENT = (PathParent("orgs", IS_SCHOOL),)
TERM_PARENT = (PathParent("academicSessions", IS_TERM, referring=("classes", "terms.sourcedId")),)
COURSE_PARENT, CLASS_PARENT, USER_PARENT = (PathParent("courses"),), (PathParent("classes"),), (PathParent("users"),)
STUDENT_PARENT, TEACHER_PARENT = (PathParent("users", IS_STUDENT),), (PathParent("users", IS_TEACHER),)
CLASS_IN_SCHOOL = (*SCHOOL_PARENT, PathParent("classes", within="school.sourcedId"))
LINE_ITEM_IN_CLASS = (*CLASS_PARENT, PathParent("lineItems", within="class.sourcedId"))
CLASS_AND_STUDENT = (*CLASS_PARENT, *STUDENT_PARENT)

# One line per route, or two for a nested read, so that the code is readable as a table.
# fmt: off
READ_ROUTES = (
    ReadRoute("getAllAcademicSessions", "/academicSessions", SESSIONS, ROSTER_CORE),
    ReadRoute("getAcademicSession", "/academicSessions/{id}", SESSIONS, ROSTER_CORE),
    ReadRoute("getAllClasses", "/classes", CLASSES, ROSTER_CORE),
    ReadRoute("getClass", "/classes/{id}", CLASSES, ROSTER_CORE),
    ReadRoute("getAllCourses", "/courses", COURSES, ROSTER_CORE),
    ReadRoute("getCourse", "/courses/{id}", COURSES, ROSTER_CORE),
    ReadRoute("getAllGradingPeriods", "/gradingPeriods", SESSIONS, ROSTER_CORE, IS_GRADING_PERIOD),
    ReadRoute("getGradingPeriod", "/gradingPeriods/{id}", SESSIONS, ROSTER_CORE, IS_GRADING_PERIOD),
    ReadRoute("getAllDemographics", "/demographics", DEMOGRAPHICS_TYPE, DEMOGRAPHICS),
    ReadRoute("getDemographics", "/demographics/{id}", DEMOGRAPHICS_TYPE, DEMOGRAPHICS),
    ReadRoute("getAllEnrollments", "/enrollments", ENROLLMENTS, ROSTER_CORE),
    ReadRoute("getEnrollment", "/enrollments/{id}", ENROLLMENTS, ROSTER_CORE),
    ReadRoute("getAllOrgs", "/orgs", ORGS, ROSTER_CORE),
    ReadRoute("getOrg", "/orgs/{id}", ORGS, ROSTER_CORE),
    ReadRoute("getAllSchools", "/schools", ORGS, ROSTER_CORE, IS_SCHOOL),
    ReadRoute("getSchool", "/schools/{id}", ORGS, ROSTER_CORE, IS_SCHOOL),
    ReadRoute("getAllStudents", "/students", USERS, ROSTER_CORE, IS_STUDENT),
    ReadRoute("getStudent", "/students/{id}", USERS, ROSTER_CORE, IS_STUDENT),
    ReadRoute("getAllTeachers", "/teachers", USERS, ROSTER_CORE, IS_TEACHER),
    ReadRoute("getTeacher", "/teachers/{id}", USERS, ROSTER_CORE, IS_TEACHER),
    ReadRoute("getAllTerms", "/terms", SESSIONS, ROSTER_CORE, IS_TERM),
    ReadRoute("getTerm", "/terms/{id}", SESSIONS, ROSTER_CORE, term_or_session_of_classes),
    ReadRoute("getAllUsers", "/users", USERS, ROSTER_CORE),
    ReadRoute("getUser", "/users/{id}", USERS, ROSTER_CORE),
    ReadRoute("getCoursesForSchool", "/schools/{id}/courses",
          COURSES, ROSTER, courses_of_school, SCHOOL_PARENT),
    ReadRoute("getEnrollmentsForClassInSchool", "/schools/{school_id}/classes/{class_id}/enrollments",
          ENROLLMENTS, ROSTER, references("class.sourcedId"), CLASS_IN_SCHOOL),
    ReadRoute("getStudentsForClassInSchool", "/schools/{school_id}/classes/{class_id}/students",
          USERS, ROSTER, users_enrolled_in_class("student"), CLASS_IN_SCHOOL),
    ReadRoute("getTeachersForClassInSchool", "/schools/{school_id}/classes/{class_id}/teachers",
          USERS, ROSTER, users_enrolled_in_class("teacher"), CLASS_IN_SCHOOL),
    ReadRoute("getEnrollmentsForSchool", "/schools/{school_id}/enrollments",
          ENROLLMENTS, ROSTER, references("school.sourcedId"), SCHOOL_PARENT),
    ReadRoute("getStudentsForSchool", "/schools/{school_id}/students",
          USERS, ROSTER, users_of_school("student"), SCHOOL_PARENT),
    ReadRoute("getTeachersForSchool", "/schools/{school_id}/teachers",
          USERS, ROSTER, users_of_school("teacher"), SCHOOL_PARENT),
    ReadRoute("getTermsForSchool", "/schools/{school_id}/terms",
          SESSIONS, ROSTER, terms_of_school, SCHOOL_PARENT),
    ReadRoute("getClassesForTerm", "/terms/{term_id}/classes",
          CLASSES, ROSTER, references("terms.sourcedId"), TERM_PARENT),
    ReadRoute("getGradingPeriodsForTerm", "/terms/{term_id}/gradingPeriods",
          SESSIONS, ROSTER, grading_periods_of_term, TERM_PARENT, follows="parent"),
    ReadRoute("getClassesForCourse", "/courses/{course_id}/classes",
          CLASSES, ROSTER, references("course.sourcedId"), COURSE_PARENT),
    ReadRoute("getClassesForStudent", "/students/{student_id}/classes",
          CLASSES, ROSTER, classes_of_user("student"), STUDENT_PARENT),
    ReadRoute("getClassesForTeacher", "/teachers/{teacher_id}/classes",
          CLASSES, ROSTER, classes_of_user("teacher"), TEACHER_PARENT),
    ReadRoute("getClassesForSchool", "/schools/{school_id}/classes",
          CLASSES, ROSTER, references("school.sourcedId"), SCHOOL_PARENT),
    ReadRoute("getClassesForUser", "/users/{user_id}/classes",
          CLASSES, ROSTER, classes_of_user(), USER_PARENT),
    ReadRoute("getStudentsForClass", "/classes/{class_id}/students",
          USERS, ROSTER, users_enrolled_in_class("student"), CLASS_PARENT),
    ReadRoute("getTeachersForClass", "/classes/{class_id}/teachers",
          USERS, ROSTER, users_enrolled_in_class("teacher"), CLASS_PARENT),
    ReadRoute("getAllResources", "/resources", RESOURCES_TYPE, RESOURCE),
    ReadRoute("getResource", "/resources/{id}", RESOURCES_TYPE, RESOURCE),
    ReadRoute("getResourcesForCourse", "/courses/{course_id}/resources",
          RESOURCES_TYPE, RESOURCE, listed_in("courses", "resources.sourcedId"), COURSE_PARENT),
    ReadRoute("getResourcesForClass", "/classes/{class_id}/resources",
          RESOURCES_TYPE, RESOURCE, listed_in("classes", "resources.sourcedId"), CLASS_PARENT),
    ReadRoute("getAllCategories", "/categories", CATEGORIES, GRADEBOOK),
    ReadRoute("getCategory", "/categories/{id}", CATEGORIES, GRADEBOOK),
    ReadRoute("getAllLineItems", "/lineItems", LINE_ITEMS, GRADEBOOK),
    ReadRoute("getLineItem", "/lineItems/{id}", LINE_ITEMS, GRADEBOOK),
    ReadRoute("getAllResults", "/results", RESULTS, GRADEBOOK),
    ReadRoute("getResult", "/results/{id}", RESULTS, GRADEBOOK),
    ReadRoute("getResultsForClass", "/classes/{class_id}/results",
          RESULTS, GRADEBOOK, results_of_class, CLASS_PARENT),
    ReadRoute("getLineItemsForClass", "/classes/{class_id}/lineItems",
          LINE_ITEMS, GRADEBOOK, references("class.sourcedId"), CLASS_PARENT),
    ReadRoute("getResultsForLineItemForClass", "/classes/{class_id}/lineItems/{li_id}/results",
          RESULTS, GRADEBOOK, references("lineItem.sourcedId"), LINE_ITEM_IN_CLASS),
    ReadRoute("getResultsForStudentForClass", "/classes/{class_id}/students/{student_id}/results",
          RESULTS, GRADEBOOK, results_of_student, CLASS_AND_STUDENT),
    # An operation of OneRoster 1.2 that clients of 1.1 call too.
    ReadRoute("getCategoriesForClass", "/classes/{class_id}/categories",
          CATEGORIES, GRADEBOOK, categories_of_class, CLASS_PARENT),
)
# fmt: on


@dataclass(frozen=True, slots=True, eq=False)
class WriteRoute:
    """Write operation, which changes the gradebook.

    `deletion_scope` is required too if the status of the sent record deletes it (docs/conformance, W-09).
    """

    operation: str
    method: Literal["PUT", "DELETE"]
    path: str
    resource_type: ResourceType
    scope: str
    deletion_scope: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """Path and, for PUT, the path of the collection, each with its alias (docs/conformance, W-02 and N-07)."""
        paths = (self.path, self.path.removesuffix("/{id}")) if self.method == "PUT" else (self.path,)
        return tuple(spelling for path in paths for spelling in _with_alias(path))


# fmt: off
WRITE_ROUTES = (
    WriteRoute("deleteCategory", "DELETE", "/categories/{id}", CATEGORIES, GRADEBOOK_DELETE),
    WriteRoute("putCategory", "PUT", "/categories/{id}", CATEGORIES, GRADEBOOK_WRITE, GRADEBOOK_DELETE),
    WriteRoute("deleteLineItem", "DELETE", "/lineItems/{id}", LINE_ITEMS, GRADEBOOK_DELETE),
    WriteRoute("putLineItem", "PUT", "/lineItems/{id}", LINE_ITEMS, GRADEBOOK_WRITE, GRADEBOOK_DELETE),
    WriteRoute("deleteResult", "DELETE", "/results/{id}", RESULTS, GRADEBOOK_DELETE),
    WriteRoute("putResult", "PUT", "/results/{id}", RESULTS, GRADEBOOK_WRITE, GRADEBOOK_DELETE),
)
# fmt: on
