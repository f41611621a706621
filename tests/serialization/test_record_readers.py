"""Modules that read stored records: each renders them with the serializer, or is listed with what it reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT

SOURCES = ROOT / "chalk_flask"
WITHOUT_OUTPUT = {
    *(
        "admins",
        "audit",
        "auth",
        "background",
        "cli",
        "demo",
        "jobs",
        "oneroster",
        "permissions",
        "roster",
        "serialization",
        "settings",
        "tenants",
    ),
    "storage.py",
}
"""Packages and modules that send nothing to clients and receivers. The modules of all others are examined."""

READ_METHODS = {"find", "get_many", "keys", "scan"}
"""Methods of a snapshot that return ids or bodies."""

SERIALIZED = {
    "api/reads/changes.py": "the records of the change feed",
    "api/reads/views.py": "reads",
    "outbox/subscriber_view.py": "the records in webhook events",
    "api/writes/views.py": "responses to writes",
    "console/stored_records.py": "new values of a held package, and former values in the change history",
}
"""Modules that render records, each with `DocumentSerializer`."""

WITHOUT_RECORDS = {
    "console/pages/dashboard/dashboard.py": "webhooks and numbers of deliveries",
    "console/pages/imports/held_changes.py": "import runs",
    "console/pages/imports/runs.py": "import runs",
    "console/pages/imports/summaries.py": "import runs and jobs",
    "console/api_client.py": "tenants; records come from the API in this process",
    "console/blueprint.py": "sessions",
    "console/pages/quality/warnings.py": "import runs",
    "console/pages/roster/demographics.py": "writes audit events",
    "console/pages/roster/history.py": "sequence numbers, notes, import runs, and former values for render_stored",
    "console/submissions.py": "submissions",
    **{f"jobs/{name}.py": "jobs" for name in ("lifecycle", "record", "retention", "store", "worker")},
    "jobs/execution.py": "numbers of rows in import runs",
    "console/upload_limit.py": "sessions",
    "backup/backup.py": "writes an audit event",
    "backup/restore.py": "sessions and setup links",
    "mail/digest.py": "import runs and notices",
    "mail/worker.py": "notices and administrators",
    "notices/queue.py": "notices",
    "notices/recipients.py": "administrators",
    "monitoring/worker_watch.py": "webhooks and jobs",
    "sources/record.py": "sources",
    "sources/schedule.py": "sources and jobs",
    "sources/store.py": "sources",
    "sources/sync.py": "sources",
    "openapi/examples.py": "records of the demo",
    "monitoring/readiness.py": "nothing but whether the store can be read",
    "monitoring/roster_age.py": "times of import runs",
    "monitoring/store_collector.py": "numbers of records and deliveries",
    "outbox/delivery.py": "deliveries",
    "outbox/tenant_update.py": "deliveries",
    "outbox/subscription.py": "webhooks",
    "outbox/writer.py": "passes stored records to SubscriberView only",
    "webhooks/admin/deliveries.py": "deliveries, whose bodies SubscriberView rendered, without demographics",
    "webhooks/admin/history.py": "deliveries",
    "webhooks/admin/replay.py": "deliveries",
    "webhooks/admin/store.py": "webhooks",
    "webhooks/delivery/queue.py": "deliveries, whose bodies SubscriberView rendered",
    "webhooks/delivery/recorder.py": "deliveries",
    "webhooks/delivery/retention.py": "deliveries",
    "webhooks/delivery/worker.py": "webhooks",
}
"""Modules that read other collections, or that render nothing themselves."""


def modules_that_read() -> Iterator[str]:
    """Yield the modules that open a snapshot or transaction, or read ids or bodies from one."""
    for path in sorted(SOURCES.rglob("*.py")):
        name = path.relative_to(SOURCES)
        if name.parts[0] not in WITHOUT_OUTPUT and reads_records(path.read_text(encoding="utf-8")):
            yield name.as_posix()


def reads_records(source: str) -> bool:
    """Return True if the source calls a method of a snapshot, or opens one. `keys()` of a dict has no arguments."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return any(
        isinstance(call.func, ast.Attribute)
        and (
            (call.func.attr in READ_METHODS and bool(call.args or call.keywords))
            or (call.func.attr in ("read", "write") and "store" in ast.unparse(call.func.value))
        )
        for call in calls
    )


def test_modules_that_read_records_use_the_serializer() -> None:
    readers = set(modules_that_read())
    assert readers <= SERIALIZED.keys() | WITHOUT_RECORDS.keys(), (
        "render records with DocumentSerializer, and list the module"
    )
    for name in SERIALIZED:
        assert "DocumentSerializer(" in (SOURCES / name).read_text(encoding="utf-8"), name
    for name in WITHOUT_RECORDS:
        assert (SOURCES / name).exists(), name


def test_only_the_serializer_resolves_references() -> None:
    """Stored bodies have unfinished addresses, so that nothing else can serve them."""
    resolving = [
        path.relative_to(SOURCES).as_posix()
        for path in sorted(SOURCES.rglob("*.py"))
        if '"href":"' in path.read_text(encoding="utf-8")
    ]
    allowed = {
        "serialization/serializer.py",
        "serialization/redaction.py",  # removes stored references
        "oneroster/fields/composites.py",  # writes stored references
        "roster/integrity/canonical_form_check.py",
    }
    assert set(resolving) <= allowed


@pytest.mark.parametrize(
    "source",
    [
        "snapshot.get_many('users', keys)",
        "transaction.find(query).body()",
        "list(snapshot.scan('users'))",
        "snapshot.keys('users')",
        "services.store.read(tenant)",
        "with self._store.write(tenant) as records: pass",
    ],
)
def test_source_that_reads_records_is_recognized(source: str) -> None:
    assert reads_records(source)
    assert not reads_records("list({}.keys()); request.stream.read(10)")
