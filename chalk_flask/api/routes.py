"""The tables of routes: every operation of OneRoster 1.1 is a row, reads in one and writes in the other (digest 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from backends import KEY, MATCH_ALL, Compare, Snapshot, Where, and_
from chalk_flask.oneroster.relations import (
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

__all__ = ["GRADEBOOK_COLLECTIONS", "ROOTS", "ROUTES", "WRITES", "ApiRoot", "Route", "WriteRoute"]


@dataclass(frozen=True, slots=True, eq=False)
class ApiRoot:
    """A path under which everything is served. `limit` is the size of a page that nobody asked a size for (0: all).

    A `read_only` one offers writes to those alone who may write.
    """

    name: str
    path: str
    limit: int
    read_only: bool = False


ROOTS = (ApiRoot("chalk", "/api/oneroster/v1p1", 0, read_only=True), ApiRoot("ims", "/ims/oneroster/v1p1", 100))


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One operation. Each id in the path but a single read's last one names one of the `parents`, in their order."""

    operation: str
    path: str
    resource: ResourceType
    scope: str
    where: Condition | Where = MATCH_ALL
    parents: tuple[PathParent, ...] = ()

    @property
    def is_collection(self) -> bool:
        """Whether it answers a collection."""
        return not self.path.endswith("}")

    @property
    def scopes(self) -> list[str]:
        """The scopes of which a token needs one."""
        return sorted(SATISFIED_BY[self.scope])

    @property
    def paths(self) -> tuple[str, ...]:
        """The path and its alias: some clients write lineitems."""
        alias = self.path.replace("/lineItems", "/lineitems") if self.parents else self.path
        return (self.path,) if alias == self.path else (self.path, alias)

    def parents_exist(self, snapshot: Snapshot, ids: Ids, visible: Callable[[str], Where]) -> bool:
        """Whether every parent is visible, is of its type, and belongs to the one before it."""
        return all(
            parent.exists(snapshot, ids, position, visible(parent.collection))
            for position, parent in enumerate(self.parents)
        )

    def condition(self, snapshot: Snapshot, ids: Ids) -> Where:
        """Which records the path means."""
        where = self.where(snapshot, ids) if callable(self.where) else self.where
        return where if self.is_collection else and_(Compare(KEY, "=", ids[-1]), where)


SESSIONS, CLASSES, COURSES = RESOURCES["academicSessions"], RESOURCES["classes"], RESOURCES["courses"]
DEMOGRAPHIC, ENROLLMENTS, ORGS, USERS = (RESOURCES[n] for n in ("demographics", "enrollments", "orgs", "users"))
MATERIAL, CATEGORIES, LINE_ITEMS, RESULTS = (RESOURCES[n] for n in ("resources", "categories", "lineItems", "results"))

GRADEBOOK_COLLECTIONS = frozenset({"categories", "lineItems", "results"})
"""Whose deleted objects are hidden unless they are asked for (reading A-04)."""

IS_PERIOD, IS_TERM = has_type("type", "gradingPeriod"), has_type("type", "term")
IS_SCHOOL, IS_STUDENT, IS_TEACHER = has_type("type", "school"), has_type("role", "student"), has_type("role", "teacher")

A_SCHOOL, A_TERM = (PathParent("orgs", IS_SCHOOL),), (PathParent("academicSessions", IS_TERM),)
A_COURSE, A_CLASS, A_USER = (PathParent("courses"),), (PathParent("classes"),), (PathParent("users"),)
A_STUDENT, A_TEACHER = (PathParent("users", IS_STUDENT),), (PathParent("users", IS_TEACHER),)
CLASS_OF_SCHOOL = (*A_SCHOOL, PathParent("classes", within="school.sourcedId"))
LINE_ITEM_OF_CLASS = (*A_CLASS, PathParent("lineItems", within="class.sourcedId"))
STUDENT_AND_CLASS = (*A_CLASS, *A_STUDENT)

# A row is a line, or two for a nested read: it is read as a table.
# fmt: off
ROUTES = (
    Route("getAllAcademicSessions", "/academicSessions", SESSIONS, ROSTER_CORE),
    Route("getAcademicSession", "/academicSessions/{id}", SESSIONS, ROSTER_CORE),
    Route("getAllClasses", "/classes", CLASSES, ROSTER_CORE),
    Route("getClass", "/classes/{id}", CLASSES, ROSTER_CORE),
    Route("getAllCourses", "/courses", COURSES, ROSTER_CORE),
    Route("getCourse", "/courses/{id}", COURSES, ROSTER_CORE),
    Route("getAllGradingPeriods", "/gradingPeriods", SESSIONS, ROSTER_CORE, IS_PERIOD),
    Route("getGradingPeriod", "/gradingPeriods/{id}", SESSIONS, ROSTER_CORE, IS_PERIOD),
    Route("getAllDemographics", "/demographics", DEMOGRAPHIC, DEMOGRAPHICS),
    Route("getDemographics", "/demographics/{id}", DEMOGRAPHIC, DEMOGRAPHICS),
    Route("getAllEnrollments", "/enrollments", ENROLLMENTS, ROSTER_CORE),
    Route("getEnrollment", "/enrollments/{id}", ENROLLMENTS, ROSTER_CORE),
    Route("getAllOrgs", "/orgs", ORGS, ROSTER_CORE),
    Route("getOrg", "/orgs/{id}", ORGS, ROSTER_CORE),
    Route("getAllSchools", "/schools", ORGS, ROSTER_CORE, IS_SCHOOL),
    Route("getSchool", "/schools/{id}", ORGS, ROSTER_CORE, IS_SCHOOL),
    Route("getAllStudents", "/students", USERS, ROSTER_CORE, IS_STUDENT),
    Route("getStudent", "/students/{id}", USERS, ROSTER_CORE, IS_STUDENT),
    Route("getAllTeachers", "/teachers", USERS, ROSTER_CORE, IS_TEACHER),
    Route("getTeacher", "/teachers/{id}", USERS, ROSTER_CORE, IS_TEACHER),
    Route("getAllTerms", "/terms", SESSIONS, ROSTER_CORE, IS_TERM),
    Route("getTerm", "/terms/{id}", SESSIONS, ROSTER_CORE, IS_TERM),
    Route("getAllUsers", "/users", USERS, ROSTER_CORE),
    Route("getUser", "/users/{id}", USERS, ROSTER_CORE),
    Route("getCoursesForSchool", "/schools/{id}/courses",
          COURSES, ROSTER, courses_of_school, A_SCHOOL),
    Route("getEnrollmentsForClassInSchool", "/schools/{school_id}/classes/{class_id}/enrollments",
          ENROLLMENTS, ROSTER, references("class.sourcedId"), CLASS_OF_SCHOOL),
    Route("getStudentsForClassInSchool", "/schools/{school_id}/classes/{class_id}/students",
          USERS, ROSTER, users_enrolled_in_class("student"), CLASS_OF_SCHOOL),
    Route("getTeachersForClassInSchool", "/schools/{school_id}/classes/{class_id}/teachers",
          USERS, ROSTER, users_enrolled_in_class("teacher"), CLASS_OF_SCHOOL),
    Route("getEnrollmentsForSchool", "/schools/{school_id}/enrollments",
          ENROLLMENTS, ROSTER, references("school.sourcedId"), A_SCHOOL),
    Route("getStudentsForSchool", "/schools/{school_id}/students",
          USERS, ROSTER, users_of_school("student"), A_SCHOOL),
    Route("getTeachersForSchool", "/schools/{school_id}/teachers",
          USERS, ROSTER, users_of_school("teacher"), A_SCHOOL),
    Route("getTermsForSchool", "/schools/{school_id}/terms",
          SESSIONS, ROSTER, terms_of_school, A_SCHOOL),
    Route("getClassesForTerm", "/terms/{term_id}/classes",
          CLASSES, ROSTER, references("terms.sourcedId"), A_TERM),
    Route("getGradingPeriodsForTerm", "/terms/{term_id}/gradingPeriods",
          SESSIONS, ROSTER, grading_periods_of_term, A_TERM),
    Route("getClassesForCourse", "/courses/{course_id}/classes",
          CLASSES, ROSTER, references("course.sourcedId"), A_COURSE),
    Route("getClassesForStudent", "/students/{student_id}/classes",
          CLASSES, ROSTER, classes_of_user("student"), A_STUDENT),
    Route("getClassesForTeacher", "/teachers/{teacher_id}/classes",
          CLASSES, ROSTER, classes_of_user("teacher"), A_TEACHER),
    Route("getClassesForSchool", "/schools/{school_id}/classes",
          CLASSES, ROSTER, references("school.sourcedId"), A_SCHOOL),
    Route("getClassesForUser", "/users/{user_id}/classes",
          CLASSES, ROSTER, classes_of_user(), A_USER),
    Route("getStudentsForClass", "/classes/{class_id}/students",
          USERS, ROSTER, users_enrolled_in_class("student"), A_CLASS),
    Route("getTeachersForClass", "/classes/{class_id}/teachers",
          USERS, ROSTER, users_enrolled_in_class("teacher"), A_CLASS),
    Route("getAllResources", "/resources", MATERIAL, RESOURCE),
    Route("getResource", "/resources/{id}", MATERIAL, RESOURCE),
    Route("getResourcesForCourse", "/courses/{course_id}/resources",
          MATERIAL, RESOURCE, listed_in("courses", "resources.sourcedId"), A_COURSE),
    Route("getResourcesForClass", "/classes/{class_id}/resources",
          MATERIAL, RESOURCE, listed_in("classes", "resources.sourcedId"), A_CLASS),
    Route("getAllCategories", "/categories", CATEGORIES, GRADEBOOK),
    Route("getCategory", "/categories/{id}", CATEGORIES, GRADEBOOK),
    Route("getAllLineItems", "/lineItems", LINE_ITEMS, GRADEBOOK),
    Route("getLineItem", "/lineItems/{id}", LINE_ITEMS, GRADEBOOK),
    Route("getAllResults", "/results", RESULTS, GRADEBOOK),
    Route("getResult", "/results/{id}", RESULTS, GRADEBOOK),
    Route("getResultsForClass", "/classes/{class_id}/results",
          RESULTS, GRADEBOOK, results_of_class, A_CLASS),
    Route("getLineItemsForClass", "/classes/{class_id}/lineItems",
          LINE_ITEMS, GRADEBOOK, references("class.sourcedId"), A_CLASS),
    Route("getResultsForLineItemForClass", "/classes/{class_id}/lineItems/{li_id}/results",
          RESULTS, GRADEBOOK, references("lineItem.sourcedId"), LINE_ITEM_OF_CLASS),
    Route("getResultsForStudentForClass", "/classes/{class_id}/students/{student_id}/results",
          RESULTS, GRADEBOOK, results_of_student, STUDENT_AND_CLASS),
    # Not of 1.1, but clients of 1.1 ask for it (digest 2.4).
    Route("getCategoriesForClass", "/classes/{class_id}/categories",
          CATEGORIES, GRADEBOOK, categories_of_class, A_CLASS),
)
# fmt: on


@dataclass(frozen=True, slots=True, eq=False)
class WriteRoute:
    """One operation that changes the gradebook."""

    operation: str
    method: Literal["PUT", "DELETE"]
    path: str
    resource: ResourceType
    scope: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The path, and for PUT that of the collection: some clients leave the id to the server (reading W-02)."""
        return (self.path, self.path.removesuffix("/{id}")) if self.method == "PUT" else (self.path,)


# fmt: off
WRITES = (
    WriteRoute("deleteCategory", "DELETE", "/categories/{id}", CATEGORIES, GRADEBOOK_DELETE),
    WriteRoute("putCategory", "PUT", "/categories/{id}", CATEGORIES, GRADEBOOK_WRITE),
    WriteRoute("deleteLineItem", "DELETE", "/lineItems/{id}", LINE_ITEMS, GRADEBOOK_DELETE),
    WriteRoute("putLineItem", "PUT", "/lineItems/{id}", LINE_ITEMS, GRADEBOOK_WRITE),
    WriteRoute("deleteResult", "DELETE", "/results/{id}", RESULTS, GRADEBOOK_DELETE),
    WriteRoute("putResult", "PUT", "/results/{id}", RESULTS, GRADEBOOK_WRITE),
)
# fmt: on
