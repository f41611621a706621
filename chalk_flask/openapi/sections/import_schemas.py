"""JSON Schemas of jobs, import runs and their reports, as the admin API returns them.

Members that a run of an earlier version may lack are not required.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from chalk_flask.jobs import JobKind, JobState, PhaseProgress
from chalk_flask.openapi.json_schemas import JSONObject, JSONSchema, schema_ref
from chalk_flask.roster.imports.options import InvalidRows
from chalk_flask.roster.imports.report import OUTCOMES, RunState
from chalk_flask.roster.imports.thresholds import ExceededThreshold
from chalk_flask.roster.package.archive import ArchiveLimits

__all__ = ["IMPORT_SCHEMAS"]

TEXT: Final[JSONSchema] = {"type": "string"}
COUNT: Final[JSONSchema] = {"type": "integer", "minimum": 0}
SECONDS: Final[JSONSchema] = {"type": "number", "minimum": 0}
BOOLEAN: Final[JSONSchema] = {"type": "boolean"}
TIME: Final[JSONSchema] = {"type": "string", "format": "date-time"}


def _enum(values: object) -> JSONSchema:
    return {"type": "string", "enum": list(get_args(values))}


def _nullable(schema: JSONSchema, description: str = "") -> JSONSchema:
    """Return a schema that allows null too."""
    described = {"description": description} if description else {}
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]} | described
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [schema["type"], "null"]} | enum | described


def _list_of(schema: JSONSchema) -> JSONSchema:
    return {"type": "array", "items": schema}


def _map_of(schema: JSONSchema, description: str) -> JSONSchema:
    return {"type": "object", "additionalProperties": schema, "description": description}


def _object(description: str, properties: Mapping[str, JSONSchema], *optional: str) -> JSONSchema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "description": description, "required": required, "properties": dict(properties)}


def _schema_of(cls: type, description: str) -> JSONSchema:
    """Return the schema of the JSON objects of a dataclass, which have all of its fields."""
    components: Mapping[str, Any] = msgspec.json.schema_components([cls])[1]
    schema: JSONObject = components[cls.__name__]
    return _object(description, schema["properties"])


_PROGRESS = _object(
    "Progress of a running job.",
    {
        "phase": {**TEXT, "description": "Name of the current phase."},
        "count": COUNT,
        "total": _nullable(COUNT, "Expected number of rows in the current phase."),
        "phases": _list_of(_schema_of(PhaseProgress, "Phase of an import: a file that is read or written.")),
        "seconds": SECONDS,
    },
)

_JOB = _object(
    "Import, dry run, approval or sync that the service runs in the background.",
    {
        "job": {**TEXT, "description": "Id of the job."},
        "kind": _enum(JobKind),
        "state": {
            **_enum(JobState),
            "description": "A finished job has a report, also if the package was rejected. A failed one has a message.",
        },
        "who": {**TEXT, "description": "Id of the credential or administrator that requested the job."},
        "created": TIME,
        "started": _nullable(TIME),
        "finished": _nullable(TIME),
        "package": {**TEXT, "description": "Name of the package on the client."},
        "run": _nullable(TEXT, "Id of the import run."),
        "message": _nullable(TEXT, "Reason why the job failed."),
        "progress": _nullable(schema_ref("ImportProgress")),
        "report": _nullable(schema_ref("ImportReport")),
    },
)

_COUNTS: Final[Mapping[str, JSONSchema]] = dict.fromkeys(("rows", *OUTCOMES), COUNT)

_PROBLEM = _object(
    "Error or warning about a package, without cells of the package.",
    {
        "code": TEXT,
        "message": TEXT,
        "remedy": TEXT,
        "file": _nullable(TEXT),
        "row": _nullable(COUNT, "Number of the record; the header is row 1."),
        "column": _nullable(TEXT),
        "value": _nullable(TEXT, "Always null here, because cells may contain personal data."),
    },
)

_THRESHOLD = _schema_of(ExceededThreshold, "Change threshold that a package exceeds, with its numbers and limits.")

_REPORT: Final[Mapping[str, JSONSchema]] = {
    "run": {**TEXT, "description": "Id of the import run."},
    "state": {
        **_enum(RunState),
        "description": "State of the import. `refused` means rejected. Nothing was changed unless it is `committed`.",
    },
    "tenant": TEXT,
    "package": TEXT,
    "dryRun": BOOLEAN,
    "sha256": _nullable(TEXT, "Checksum of the package."),
    "files": _map_of(schema_ref("ImportFileReport"), "Result by data file, such as `users`."),
    "total": _object("Number of rows, and of records by outcome.", _COUNTS),
    "purged": {**COUNT, "description": "Number of old tombstones that were deleted."},
    "dateLastModified": _nullable(TIME, "`dateLastModified` of the changed records."),
    "seconds": SECONDS,
    "brake": {**_list_of(schema_ref("ExceededThreshold")), "description": "Reasons to hold the package."},
    "expires": _nullable(TIME, "Time until which a held package can be approved."),
    "earlier": _nullable(TEXT, "Id of the run that imported or held the same package before."),
    "quarantined": _map_of(COUNT, "Number of quarantined rows by data file."),
    "quarantinedRows": _list_of(schema_ref("ImportProblem")),
    "notes": {**_list_of(TEXT), "description": "Sentences about the package that are no problem."},
    "errorCount": COUNT,
    "errors": _list_of(schema_ref("ImportProblem")),
    "errorCounts": _list_of(
        _object("Number of errors of a file with one code.", {"file": _nullable(TEXT), "code": TEXT, "count": COUNT})
    ),
    "warnings": _list_of(schema_ref("ImportProblem")),
}

_LATER_REPORT_MEMBERS: Final = ("quarantined", "quarantinedRows", "notes")

_OPTIONS = _object(
    "Options of the import, and the version of the program.",
    {
        "mapRoles": BOOLEAN,
        "roleMap": _map_of(TEXT, "Roles of the setting `import_role_map`."),
        "lenient": BOOLEAN,
        "tombstoneDays": COUNT,
        "invalidRows": _enum(InvalidRows),
        "strict": BOOLEAN,
        "limits": _schema_of(ArchiveLimits, "Limits of a package: entries, bytes, ratio, and bytes of a cell."),
        "version": TEXT,
    },
    *("roleMap", "lenient", "invalidRows", "strict"),
)

_RUN = _object(
    "Import of a package into the roster: its report, and who requested and decided it.",
    {
        **_REPORT,
        "who": {**TEXT, "description": "Id of the credential or administrator, or name of the user of the machine."},
        "started": TIME,
        "options": schema_ref("ImportOptions"),
        "settledBy": _nullable(TEXT, "Who approved or discarded a held import."),
        "settled": _nullable(TIME, "Time of that decision."),
    },
    *_LATER_REPORT_MEMBERS,
)

IMPORT_SCHEMAS: Final[Mapping[str, JSONSchema]] = {
    "ImportJob": _JOB,
    "ImportProgress": _PROGRESS,
    "ImportRun": _RUN,
    "ImportReport": _object("Result of an import or dry run.", _REPORT, *_LATER_REPORT_MEMBERS),
    "ImportFileReport": _object(
        "Mode of a data file, its number of rows, and the number of records by outcome.",
        {"mode": _nullable({"type": "string", "enum": ["bulk", "delta"]}), **_COUNTS},
    ),
    "ImportProblem": _PROBLEM,
    "ImportOptions": _OPTIONS,
    "ExceededThreshold": _THRESHOLD,
}
"""Schemas by the name of the component."""
