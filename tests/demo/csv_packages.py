"""CSV packages read with the csv module alone, and the rules of the standard for their cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from tests.support.paths import ROOT

Row: TypeAlias = dict[str, str]
Package: TypeAlias = dict[str, list[Row]]

DATA = ROOT / "tests" / "data"
DEMO = ROOT / "chalk_flask" / "demo"
PACKAGES = {"demo": DEMO, "minimal": DATA / "csv/minimal", "quirks": DATA / "csv/quirks"}
EXPECTED = DATA / "csv/quirks.expected.json"
OPERATIONS = DATA / "operations.json"

# From the OneRoster 1.1 CSV specification, independent of the declarations in chalk_flask.oneroster.
HEADERS = {
    "academicSessions": "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear",
    "categories": "sourcedId,status,dateLastModified,title",
    "classes": "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,"
    "schoolSourcedId,termSourcedIds,subjects,subjectCodes,periods",
    "classResources": "sourcedId,status,dateLastModified,title,classSourcedId,resourceSourcedId",
    "courses": "sourcedId,status,dateLastModified,schoolYearSourcedId,title,courseCode,grades,orgSourcedId,"
    "subjects,subjectCodes",
    "courseResources": "sourcedId,status,dateLastModified,title,courseSourcedId,resourceSourcedId",
    "demographics": "sourcedId,status,dateLastModified,birthDate,sex,americanIndianOrAlaskaNative,asian,"
    "blackOrAfricanAmerican,nativeHawaiianOrOtherPacificIslander,white,demographicRaceTwoOrMoreRaces,"
    "hispanicOrLatinoEthnicity,countryOfBirthCode,stateOfBirthAbbreviation,cityOfBirth,publicSchoolResidenceStatus",
    "enrollments": "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,primary,"
    "beginDate,endDate",
    "lineItems": "sourcedId,status,dateLastModified,title,description,assignDate,dueDate,classSourcedId,"
    "categorySourcedId,gradingPeriodSourcedId,resultValueMin,resultValueMax",
    "orgs": "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId",
    "resources": "sourcedId,status,dateLastModified,vendorResourceId,title,roles,importance,vendorId,applicationId",
    "results": "sourcedId,status,dateLastModified,lineItemSourcedId,studentSourcedId,scoreStatus,score,scoreDate,"
    "comment",
    "users": "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,"
    "familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,password",
}
# Required columns, from the same tables.
REQUIRED = {
    "academicSessions": "sourcedId title type startDate endDate schoolYear",
    "categories": "sourcedId title",
    "classes": "sourcedId title courseSourcedId classType schoolSourcedId termSourcedIds",
    "classResources": "sourcedId classSourcedId resourceSourcedId",
    "courses": "sourcedId title orgSourcedId",
    "courseResources": "sourcedId courseSourcedId resourceSourcedId",
    "demographics": "sourcedId",
    "enrollments": "sourcedId classSourcedId schoolSourcedId userSourcedId role",
    "lineItems": "sourcedId title assignDate dueDate classSourcedId categorySourcedId gradingPeriodSourcedId "
    "resultValueMin resultValueMax",
    "orgs": "sourcedId name type",
    "resources": "sourcedId vendorResourceId",
    "results": "sourcedId lineItemSourcedId studentSourcedId scoreStatus score scoreDate",
    "users": "sourcedId enabledUser orgSourcedIds role username givenName familyName",
}
TARGETS = {
    "schoolYearSourcedId": "academicSessions",
    "orgSourcedId": "orgs",
    "orgSourcedIds": "orgs",
    "schoolSourcedId": "orgs",
    "courseSourcedId": "courses",
    "classSourcedId": "classes",
    "metadata.classId": "classes",
    "termSourcedIds": "academicSessions",
    "gradingPeriodSourcedId": "academicSessions",
    "userSourcedId": "users",
    "studentSourcedId": "users",
    "agentSourcedIds": "users",
    "resourceSourcedId": "resources",
    "categorySourcedId": "categories",
    "lineItemSourcedId": "lineItems",
}
ROLES = ["administrator", "aide", "guardian", "parent", "proctor", "relative", "student", "teacher"]
GRADES = ["IT", "PR", "PK", "TK", "KG", *(f"{grade:02d}" for grade in range(1, 14)), "PS", "UG", "Other"]
SCORE_STATUSES = ["exempt", "fully graded", "not submitted", "partially graded", "submitted"]
RACES = [
    "americanIndianOrAlaskaNative",
    "asian",
    "blackOrAfricanAmerican",
    "nativeHawaiianOrOtherPacificIslander",
    "white",
]
BOOLEANS = {("users", "enabledUser"), ("enrollments", "primary")} | {
    ("demographics", flag) for flag in (*RACES, "demographicRaceTwoOrMoreRaces", "hispanicOrLatinoEthnicity")
}
VOCABULARIES = {
    ("academicSessions", "type"): ["gradingPeriod", "semester", "schoolYear", "term"],
    ("orgs", "type"): ["department", "school", "district", "local", "state", "national"],
    ("classes", "classType"): ["homeroom", "scheduled"],
    ("classes", "grades"): GRADES,
    ("courses", "grades"): GRADES,
    ("users", "grades"): GRADES,
    ("users", "role"): ROLES,
    ("resources", "roles"): ROLES,
    ("resources", "importance"): ["primary", "secondary"],
    ("enrollments", "role"): ["administrator", "proctor", "student", "teacher"],
    ("results", "scoreStatus"): SCORE_STATUSES,
    ("demographics", "sex"): ["male", "female"],
    ("demographics", "publicSchoolResidenceStatus"): ["01652", "01653", "01654", "01655", "01656"],
} | {place: ["true", "false"] for place in BOOLEANS}
DATES = ["startDate", "endDate", "beginDate", "birthDate", "assignDate", "dueDate", "scoreDate"]
SAFE_ID = re.compile(r"[0-9A-Za-z._-]{1,40}")


def read(path: Path) -> list[list[str]]:
    """Return header and rows of a file, without a byte order mark."""
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def load(folder: Path) -> Package:
    """Return the rows of every data file of a package, with the column names of OneRoster 1.1."""
    package: Package = {name: [] for name in HEADERS}
    for name in HEADERS:
        if (folder / f"{name}.csv").exists():
            head, *rows = read(folder / f"{name}.csv")
            if name == "demographics":
                head = [{"userSourcedId": "sourcedId", "birthdate": "birthDate"}.get(c, c) for c in head]
            package[name] = [dict(zip(head, row, strict=True)) for row in rows]
    return package


def items(cell: str) -> list[str]:
    """Return the values of a list cell."""
    return [item.strip() for item in cell.split(",") if item.strip()]


def ids(package: Package, name: str, **cells: str) -> set[str]:
    """Return the sourcedIds of the rows that have these cells."""
    return {r["sourcedId"] for r in package[name] if all(r[c] == v for c, v in cells.items())}


def cells(package: Package) -> Iterator[tuple[str, str, str]]:
    """Yield (file, column, value) of every cell that is not empty."""
    for name, rows in package.items():
        yield from ((name, column, value) for row in rows for column, value in row.items() if value)
