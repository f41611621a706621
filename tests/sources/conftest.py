"""Fixtures of sources: a tenant that pulls its roster from a provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backends import Backend, Query, open_store
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.roster.imports import ImportReport
from chalk_flask.roster.imports.history import ImportRun, list_runs
from chalk_flask.roster.imports.run_files import store_folder
from chalk_flask.settings import Settings, load_settings
from chalk_flask.sources import Source, SourceRequest, SourceStore, SyncOptions, sync_source
from chalk_flask.sources.limits import SourceLimits
from chalk_flask.storage import COLLECTIONS
from tests.support.clock import FakeClock
from tests.support.sources.provider import SECRET, Provider, run_provider

LIMITS = SourceLimits(read_timeout_seconds=5, response_seconds=5)


@dataclass
class Puller:
    """Tenant with a source, as the command line uses it. `pauses` are the pauses between attempts in seconds."""

    store: Backend
    settings: Settings
    sources: SourceStore
    clock: FakeClock
    pauses: list[float] = field(default_factory=list)
    limits: SourceLimits = LIMITS

    def add(self, url: str, **members: Any) -> Source:
        """Add the source `sis`."""
        values = {"name": "sis", "auth": "oauth2", "client_id": "chalk", "secret": SECRET, **members}
        return self.sources.add("default", SourceRequest(url=url, **values))

    def sync(self, *, full: bool = False, dry_run: bool = False, name: str = "sis") -> ImportReport:
        """Sync the source."""
        options = SyncOptions(full, dry_run, self.limits, self.pauses.append)
        return sync_source(self.store, self.settings, "default", name, options, requested_by="ada", now=self.clock)

    def source(self) -> Source:
        """Return the stored source."""
        return self.sources.get("default", "sis")

    def ids(self, name: str, *, active: bool = True) -> set[str]:
        """Return the ids of the stored records of a collection."""
        return {key for key, data in self.records(name).items() if not active or data["status"] == "active"}

    def records(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the stored records of a collection by id."""
        with self.store.read("default") as snapshot:
            bodies = json.loads(b"[%s]" % snapshot.find(Query(name)).body())
        return {body["sourcedId"]: body for body in bodies}

    def runs(self) -> list[ImportRun]:
        """Return the import runs, oldest first."""
        with self.store.read("default") as snapshot:
            return list_runs(snapshot, store_folder(self.settings), "default")

    def files(self) -> list[str]:
        """Return the names of the files that syncs have left behind."""
        folder = Path(self.settings.data) / "sources"
        return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def puller(storage: str, tmp_path: Path) -> Iterator[Puller]:
    settings = load_settings({"storage": storage, "data": str(tmp_path / "data")})
    clock = FakeClock()
    with open_store(settings.storage, COLLECTIONS) as store:
        yield Puller(store, settings, SourceStore(store, SecretCipher(settings.data), clock), clock)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with run_provider() as running:
        yield running
