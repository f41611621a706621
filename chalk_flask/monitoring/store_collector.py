"""Metrics that the store knows: rosters, imports, held packages, sources, webhooks and workers.

They are read at each request of `/metrics`, so they are the same in every process of a service.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from backends import Compare, Query, Snapshot, StorageError
from chalk_flask import __version__
from chalk_flask.monitoring.roster_age import RosterAges
from chalk_flask.outbox import Delivery, load_subscriptions
from chalk_flask.outbox.delivery import COLLECTION as DELIVERIES
from chalk_flask.roster.counts import EVERY_RECORD, Counted, RosterCounter
from chalk_flask.roster.imports import history
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.services import Services
from chalk_flask.sources.record import list_sources
from chalk_flask.times import parse_timestamp, utc_now
from chalk_flask.tracebacks import RepeatedErrors

__all__ = ["StoreCollector"]

log = logging.getLogger(__name__)

COUNTED: Final[Counted] = tuple(
    (name, name, EVERY_RECORD)
    for name in ("academicSessions", "classes", "courses", "demographics", "enrollments", "orgs", "resources", "users")
)
"""Collections of the roster. Grade tools change the gradebook all day, so it is not counted."""

STORED_OUTCOMES: Final = ("committed", "unchanged", "held", "discarded")
"""Outcomes of imports that are states of runs in the store. Rejected runs are files."""
WEBHOOK_STATES: Final = ("active", "paused", "disabled")


class StoreCollector(Collector):
    """Collector of the metrics of a store. Thread-safe.

    Without a readable store, it yields `chalk_store_up 0` and the workers.
    """

    def __init__(self, services: Services, ages: RosterAges) -> None:
        self._services, self._ages = services, ages
        self._folder = store_folder(services.settings)
        self._counter = RosterCounter(services.store, COUNTED, wait_seconds=0.0, shared_state=services.shared_state)
        self._errors = RepeatedErrors()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of now."""
        yield _build_info()
        yield self._workers()
        try:
            families = [*self._rosters(), *self._tenants()]
            self._errors.clear()
        except (StorageError, OSError) as error:
            log.log(
                self._errors.level(type(error).__name__, logging.ERROR), "metrics of the store are missing: %s", error
            )
            families = []
        yield GaugeMetricFamily("chalk_store_up", "1 if the store can be read.", 1 if families else 0)
        yield from families

    def _workers(self) -> Metric:
        family = GaugeMetricFamily(
            "chalk_worker_running", "1 if a process holds the lock of the worker.", labels=["worker"]
        )
        for name, worker in (("webhooks", self._services.worker), ("jobs", self._services.job_worker)):
            try:
                is_running = worker.is_running_anywhere()
            except OSError:
                is_running = False
            family.add_metric([name], int(is_running))
        return family

    def _rosters(self) -> Iterator[Metric]:
        records = GaugeMetricFamily(
            "chalk_roster_records",
            "Active records of a roster, counted after each import.",
            labels=["tenant", "collection"],
        )
        age = GaugeMetricFamily(
            "chalk_roster_age_seconds",
            "Time since the last import that was applied or found nothing to change.",
            labels=["tenant"],
        )
        now = self._ages.now()
        for tenant, roster in self._ages.read().items():
            if roster.imported is not None:
                age.add_metric([tenant], (now - roster.imported).total_seconds())
            for collection, count in self._counter.count(tenant).by_label.items():
                records.add_metric([tenant, collection], count)
        yield from (records, age)

    def _tenants(self) -> Iterator[Metric]:
        """Yield the metrics of imports, sources and webhooks."""
        imports, webhooks = _ImportFamilies(), _WebhookFamilies()
        failures = GaugeMetricFamily(
            "chalk_source_failures",
            "Failed syncs of a source since the last one that succeeded.",
            labels=["tenant", "source"],
        )
        now = utc_now()
        for tenant in self._ages.read():
            with self._services.store.read(tenant) as snapshot:
                imports.add(tenant, snapshot, self._folder, now)
                webhooks.add(tenant, snapshot, now)
                for source in list_sources(snapshot):
                    failures.add_metric([tenant, source.name], source.failures)
        yield from (imports.runs, imports.held, failures, webhooks.webhooks, webhooks.pending, webhooks.oldest)


class _ImportFamilies:
    """Metrics of imports, filled tenant by tenant."""

    def __init__(self) -> None:
        self.runs = GaugeMetricFamily(
            "chalk_import_runs", "Imports of the last 90 days by outcome.", labels=["tenant", "outcome"]
        )
        self.held = GaugeMetricFamily(
            "chalk_held_packages", "Packages that wait for approval and can be approved.", labels=["tenant"]
        )

    def add(self, tenant: str, snapshot: Snapshot, folder: Path, now: datetime) -> None:
        """Add the metrics of a tenant. Raises StorageError and OSError."""
        for outcome in STORED_OUTCOMES:
            self.runs.add_metric([tenant, outcome], _count(snapshot, history.COLLECTION, "state", outcome))
        self.runs.add_metric([tenant, "rejected"], len(history.rejected_run_ids(folder, tenant)))
        self.held.add_metric([tenant], len(history.runs_to_keep(snapshot, now)))


class _WebhookFamilies:
    """Metrics of webhooks, filled tenant by tenant."""

    def __init__(self) -> None:
        self.webhooks = GaugeMetricFamily("chalk_webhooks", "Webhooks by state.", labels=["tenant", "state"])
        self.pending = GaugeMetricFamily(
            "chalk_webhook_pending_deliveries", "Deliveries that are not delivered yet.", labels=["tenant", "webhook"]
        )
        self.oldest = GaugeMetricFamily(
            "chalk_webhook_oldest_pending_seconds",
            "Time since the oldest delivery was queued that is not delivered yet; 0 without one.",
            labels=["tenant", "webhook"],
        )

    def add(self, tenant: str, snapshot: Snapshot, now: datetime) -> None:
        """Add the metrics of a tenant. Raises StorageError."""
        subscriptions = load_subscriptions(snapshot)
        for state in WEBHOOK_STATES if subscriptions else ():
            self.webhooks.add_metric([tenant, state], sum(each.state == state for each in subscriptions))
        for subscription in subscriptions:
            labels = [tenant, subscription.id]
            self.pending.add_metric(labels, _count(snapshot, DELIVERIES, "queue", subscription.id))
            self.oldest.add_metric(labels, _oldest_pending_seconds(snapshot, subscription.id, now))


def _oldest_pending_seconds(snapshot: Snapshot, webhook: str, now: datetime) -> float:
    # Keys of deliveries are in the order in which they were queued.
    body = snapshot.find(Query(DELIVERIES, Compare("queue", "=", webhook), limit=1)).body()
    if not body:
        return 0.0
    created = parse_timestamp(Delivery.from_dict(orjson.loads(body)).created)
    return max((now - created).total_seconds(), 0.0)


def _count(snapshot: Snapshot, collection: str, field: str, value: str) -> int:
    return snapshot.find(Query(collection, Compare(field, "=", value), limit=0)).total


def _build_info() -> Metric:
    family = GaugeMetricFamily("chalk_build_info", "Version of the service, always 1.", labels=["version"])
    family.add_metric([__version__], 1)
    return family
