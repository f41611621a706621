"""Stored form of jobs, and their queries. A job is stored in its tenant, so that its import can end the job."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import timedelta
from typing import Any, Literal, TypeAlias, get_args

import orjson

from backends import In, OrderBy, Query, Record, Snapshot, Where
from chalk_flask.roster.tenant_imports import ImportChoices

__all__ = [
    "ACTIVE_STATES",
    "ALL_STATES",
    "COLLECTION",
    "RETENTION",
    "Job",
    "JobKind",
    "JobState",
    "find_job",
    "list_jobs",
    "new_job_id",
]

COLLECTION = "jobs"
RETENTION = timedelta(days=90)
"""Age at which a job is deleted."""

JobKind: TypeAlias = Literal["import", "dry_run", "approve", "sync"]
JobState: TypeAlias = Literal["queued", "running", "finished", "failed", "canceled"]
"""State of a job. A finished job has a report, also if the package was rejected. A failed job has no report."""

ALL_STATES: tuple[JobState, ...] = get_args(JobState)
ACTIVE_STATES: tuple[JobState, ...] = ("queued", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Import, dry run, approval or sync that the worker runs.

    `requested_by` is the id of the administrator or of the credential, because a sign-in name may be an e-mail
    address. `package` is the name that the package had on the client, or the name of
    the source. `upload` is the name of its file as long as it is
    kept. `sha256` is the hash of a package from the API. `run` is the import run. `report` has the form of
    `history.summary`. `message` says why the job failed. Times are texts in UTC. `attempt` is the number of starts, and
    `crashes` the number of starts that a crash ended.
    """

    id: str
    tenant: str
    kind: JobKind
    requested_by: str
    created: str
    package: str
    state: JobState = "queued"
    choices: ImportChoices = field(default_factory=ImportChoices)
    upload: str | None = None
    sha256: str | None = None
    run: str | None = None
    started: str | None = None
    finished: str | None = None
    report: Mapping[str, Any] | None = None
    message: str | None = None
    attempt: int = 0
    crashes: int = 0

    @property
    def is_active(self) -> bool:
        """True if the job is queued or running."""
        return self.state in ACTIVE_STATES

    @property
    def can_be_imported(self) -> bool:
        """True for a dry run whose package was accepted, and is kept to be imported without another upload."""
        return self.kind == "dry_run" and self.upload is not None and self.result == "checked"

    @property
    def result(self) -> str | None:
        """State of the import in the report, for example `committed`; None without a report."""
        return None if self.report is None else str(self.report["state"])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object for users."""
        return {
            "job": self.id,
            "kind": self.kind,
            "state": self.state,
            "who": self.requested_by,
            "created": self.created,
            "started": self.started,
            "finished": self.finished,
            "package": self.package,
            "run": self.run,
            "message": self.message,
        }

    def to_record(self) -> Record:
        """Return the record of the collection `jobs`."""
        body = {name: getattr(self, name) for name in _FIELDS} | {"choices": asdict(self.choices)}
        return Record(self.id, orjson.dumps(body), {"created": self.created, "state": self.state})


_FIELDS = tuple(item.name for item in fields(Job))


def new_job_id() -> str:
    """Return the id of a new job."""
    return f"job-{uuid.uuid4()}"


def find_job(snapshot: Snapshot, job_id: str) -> Job | None:
    """Return the job with this id."""
    body = snapshot.get_many(COLLECTION, [job_id]).get(job_id)
    return None if body is None else _decode(orjson.loads(body))


def list_jobs(snapshot: Snapshot, *states: JobState, newest_first: bool = False, limit: int | None = None) -> list[Job]:
    """Return the jobs in these states by time of creation."""
    return list(_query(snapshot, In("state", states), newest_first, limit))


def _query(snapshot: Snapshot, where: Where, newest_first: bool, limit: int | None) -> Iterator[Job]:
    query = Query(COLLECTION, where, (OrderBy("created", newest_first),), limit=limit)
    return map(_decode, orjson.loads(b"[%s]" % snapshot.find(query).body()))


def _decode(data: dict[str, Any]) -> Job:
    return Job(**data | {"choices": ImportChoices(**data["choices"])})
