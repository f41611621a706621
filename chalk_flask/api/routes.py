"""The tables of routes: every operation of OneRoster 1.1 is a row, reads in one and writes in the other (digest 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from backends import EVERYTHING, KEY, Compare, Snapshot, Where
from chalk_flask.oneroster.relations import (
    Condition,
    Ids,
    Parent,
    both,
    categories_of_class,
    classes_of,
    courses_of_school,
    grading_periods_of_term,
    listed_by,
    members,
    refers_to,
    results_of_class,
    results_of_student,
    terms_of_school,
    typed,
    users_of_school,
)
from chalk_flask.oneroster.resource_type import Resource
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

__all__ = ["GRADEBOOK_COLLECTIONS", "ROOTS", "ROUTES", "WRITES", "Root", "Route", "Write"]


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """A path under which everything is served. `limit` is the size of a page that nobody asked a size for (0: all).

    A `read_only` one offers writes to those alone who may write.
    """

    name: str
    path: str
    limit: int
    read_only: bool = False


ROOTS = (Root("chalk", "/api/oneroster/v1p1", 0, read_only=True), Root("ims", "/ims/oneroster/v1p1", 100))


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One operation. Each id in the path but a single read's last one names one of the `parents`, in their order."""

    operation: str
    path: str
    resource: Resource
    scope: str
    where: Condition | Where = EVERYTHING
    parents: tuple[Parent, ...] = ()

    @property
    def many(self) -> bool:
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

    def knows_parents(self, snapshot: Snapshot, ids: Ids, visible: Callable[[str], Where]) -> bool:
        """Whether every parent is visible, is of its type, and belongs to the one before it."""
        return all(
            parent.known(snapshot, ids, position, visible(parent.collection))
            for position, parent in enumerate(self.parents)
        )

    def condition(self, snapshot: Snapshot, ids: Ids) -> Where:
        """Which records the path means."""
        where = self.where(snapshot, ids) if callable(self.where) else self.where
        return where if self.many else both(Compare(KEY, "=", ids[-1]), where)


SESSIONS, CLASSES, COURSES = RESOURCES["academicSessions"], RESOURCES["classes"], RESOURCES["courses"]
DEMOGRAPHIC, ENROLLMENTS, ORGS, USERS = (RESOURCES[n] for n in ("demographics", "enrollments", "orgs", "users"))
MATERIAL, CATEGORIES, LINE_ITEMS, RESULTS = (RESOURCES[n] for n in ("resources", "categories", "lineItems", "results"))

GRADEBOOK_COLLECTIONS = frozenset({"categories", "lineItems", "results"})
"""Whose deleted objects are hidden unless they are asked for (reading A-04)."""

IS_PERIOD, IS_TERM = typed("type", "gradingPeriod"), typed("type", "term")
IS_SCHOOL, IS_STUDENT, IS_TEACHER = typed("type", "school"), typed("role", "student"), typed("role", "teacher")

A_SCHOOL, A_TERM = (Parent("orgs", IS_SCHOOL),), (Parent("academicSessions", IS_TERM),)
A_COURSE, A_CLASS, A_USER = (Parent("courses"),), (Parent("classes"),), (Parent("users"),)
A_STUDENT, A_TEACHER = (Parent("users", IS_STUDENT),), (Parent("users", IS_TEACHER),)
CLASS_OF_SCHOOL = (*A_SCHOOL, Parent("classes", within="school.sourcedId"))
LINE_ITEM_OF_CLASS = (*A_CLASS, Parent("lineItems", within="class.sourcedId"))
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
          ENROLLMENTS, ROSTER, refers_to("class.sourcedId"), CLASS_OF_SCHOOL),
    Route("getStudentsForClassInSchool", "/schools/{school_id}/classes/{class_id}/students",
          USERS, ROSTER, members("student"), CLASS_OF_SCHOOL),
    Route("getTeachersForClassInSchool", "/schools/{school_id}/classes/{class_id}/teachers",
          USERS, ROSTER, members("teacher"), CLASS_OF_SCHOOL),
    Route("getEnrollmentsForSchool", "/schools/{school_id}/enrollments",
          ENROLLMENTS, ROSTER, refers_to("school.sourcedId"), A_SCHOOL),
    Route("getStudentsForSchool", "/schools/{school_id}/students",
          USERS, ROSTER, users_of_school("student"), A_SCHOOL),
    Route("getTeachersForSchool", "/schools/{school_id}/teachers",
          USERS, ROSTER, users_of_school("teacher"), A_SCHOOL),
    Route("getTermsForSchool", "/schools/{school_id}/terms",
          SESSIONS, ROSTER, terms_of_school, A_SCHOOL),
    Route("getClassesForTerm", "/terms/{term_id}/classes",
          CLASSES, ROSTER, refers_to("terms.sourcedId"), A_TERM),
    Route("getGradingPeriodsForTerm", "/terms/{term_id}/gradingPeriods",
          SESSIONS, ROSTER, grading_periods_of_term, A_TERM),
    Route("getClassesForCourse", "/courses/{course_id}/classes",
          CLASSES, ROSTER, refers_to("course.sourcedId"), A_COURSE),
    Route("getClassesForStudent", "/students/{student_id}/classes",
          CLASSES, ROSTER, classes_of("student"), A_STUDENT),
    Route("getClassesForTeacher", "/teachers/{teacher_id}/classes",
          CLASSES, ROSTER, classes_of("teacher"), A_TEACHER),
    Route("getClassesForSchool", "/schools/{school_id}/classes",
          CLASSES, ROSTER, refers_to("school.sourcedId"), A_SCHOOL),
    Route("getClassesForUser", "/users/{user_id}/classes",
          CLASSES, ROSTER, classes_of(), A_USER),
    Route("getStudentsForClass", "/classes/{class_id}/students",
          USERS, ROSTER, members("student"), A_CLASS),
    Route("getTeachersForClass", "/classes/{class_id}/teachers",
          USERS, ROSTER, members("teacher"), A_CLASS),
    Route("getAllResources", "/resources", MATERIAL, RESOURCE),
    Route("getResource", "/resources/{id}", MATERIAL, RESOURCE),
    Route("getResourcesForCourse", "/courses/{course_id}/resources",
          MATERIAL, RESOURCE, listed_by("courses", "resources.sourcedId"), A_COURSE),
    Route("getResourcesForClass", "/classes/{class_id}/resources",
          MATERIAL, RESOURCE, listed_by("classes", "resources.sourcedId"), A_CLASS),
    Route("getAllCategories", "/categories", CATEGORIES, GRADEBOOK),
    Route("getCategory", "/categories/{id}", CATEGORIES, GRADEBOOK),
    Route("getAllLineItems", "/lineItems", LINE_ITEMS, GRADEBOOK),
    Route("getLineItem", "/lineItems/{id}", LINE_ITEMS, GRADEBOOK),
    Route("getAllResults", "/results", RESULTS, GRADEBOOK),
    Route("getResult", "/results/{id}", RESULTS, GRADEBOOK),
    Route("getResultsForClass", "/classes/{class_id}/results",
          RESULTS, GRADEBOOK, results_of_class, A_CLASS),
    Route("getLineItemsForClass", "/classes/{class_id}/lineItems",
          LINE_ITEMS, GRADEBOOK, refers_to("class.sourcedId"), A_CLASS),
    Route("getResultsForLineItemForClass", "/classes/{class_id}/lineItems/{li_id}/results",
          RESULTS, GRADEBOOK, refers_to("lineItem.sourcedId"), LINE_ITEM_OF_CLASS),
    Route("getResultsForStudentForClass", "/classes/{class_id}/students/{student_id}/results",
          RESULTS, GRADEBOOK, results_of_student, STUDENT_AND_CLASS),
    # Not of 1.1, but clients of 1.1 ask for it (digest 2.4).
    Route("getCategoriesForClass", "/classes/{class_id}/categories",
          CATEGORIES, GRADEBOOK, categories_of_class, A_CLASS),
)
# fmt: on


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """One operation that changes the gradebook."""

    operation: str
    method: Literal["PUT", "DELETE"]
    path: str
    resource: Resource
    scope: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The path, and for PUT that of the collection: some clients leave the id to the server (reading W-02)."""
        return (self.path, self.path.removesuffix("/{id}")) if self.method == "PUT" else (self.path,)


# fmt: off
WRITES = (
    Write("deleteCategory", "DELETE", "/categories/{id}", CATEGORIES, GRADEBOOK_DELETE),
    Write("putCategory", "PUT", "/categories/{id}", CATEGORIES, GRADEBOOK_WRITE),
    Write("deleteLineItem", "DELETE", "/lineItems/{id}", LINE_ITEMS, GRADEBOOK_DELETE),
    Write("putLineItem", "PUT", "/lineItems/{id}", LINE_ITEMS, GRADEBOOK_WRITE),
    Write("deleteResult", "DELETE", "/results/{id}", RESULTS, GRADEBOOK_DELETE),
    Write("putResult", "PUT", "/results/{id}", RESULTS, GRADEBOOK_WRITE),
)
# fmt: on
