"""Jobs: imports, dry runs, approvals and syncs that run outside of a request, with their state in the store.

`JobStore` queues a job for an uploaded package, a held import or a source, and returns jobs and their progress.
`JobWorker` runs the queued jobs of all tenants one after the other, each in a process of its own.
"""

from chalk_flask.jobs.progress import JobProgress, PhaseProgress
from chalk_flask.jobs.record import Job, JobKind, JobState
from chalk_flask.jobs.store import JobError, JobStore
from chalk_flask.jobs.uploads import UploadError
from chalk_flask.jobs.worker import JobWorker

__all__ = [
    "Job",
    "JobError",
    "JobKind",
    "JobProgress",
    "JobState",
    "JobStore",
    "JobWorker",
    "PhaseProgress",
    "UploadError",
]
