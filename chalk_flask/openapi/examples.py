"""Examples: records of the sample district, and ids for the paths, from a roster in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from itertools import islice, product
from typing import Any

import orjson

from backends import MATCH_ALL, Query, Snapshot, open_store
from chalk_flask.api.routes import ReadRoute
from chalk_flask.oneroster.resource_type import ResourceType, with_timestamp, without_timestamp
from chalk_flask.openapi.operations import Operation
from chalk_flask.permissions.policy import UNRESTRICTED
from chalk_flask.roster.imports import ImportOptions, ImportReport, import_package
from chalk_flask.serialization import DocumentSerializer
from chalk_flask.storage import COLLECTIONS

__all__ = ["TENANT", "TIMESTAMP", "ExampleRoster", "example_roster"]

TENANT = "default"
TIMESTAMP = "2026-08-17T06:00:00.000Z"
"""Value of `dateLastModified` in examples, so that the description is the same at each start."""

MAX_PATH_CANDIDATES = 5000
"""Maximum number of ids, or combinations of ids, that are tried for the path of an operation."""


@contextmanager
def example_roster() -> Iterator[ExampleRoster]:
    """Yield the roster of the sample district."""
    with open_store("memory:", COLLECTIONS) as store:
        with as_file(files("chalk_flask") / "demo") as folder:
            report = import_package(store, TENANT, folder, ImportOptions())
        with store.read(TENANT) as snapshot:
            yield ExampleRoster(snapshot, report)


class ExampleRoster:
    """Roster from which the examples of the description are taken. `report` is that of its import."""

    def __init__(self, snapshot: Snapshot, report: ImportReport) -> None:
        self._snapshot, self.report = snapshot, report

    def record(self, resource_type: ResourceType, root_url: str) -> Mapping[str, Any]:
        """Return the first record of a resource type, as it is served below an API root."""
        body = self._snapshot.find(Query(resource_type.name, MATCH_ALL, limit=1)).body()
        stored = with_timestamp(without_timestamp(body), TIMESTAMP)
        record: Mapping[str, Any] = orjson.loads(
            b"".join(DocumentSerializer(resource_type, root_url, UNRESTRICTED).render([stored]))
        )
        return record

    def path_ids(self, operation: Operation) -> Mapping[str, str]:
        """Return ids for the path of an operation, by parameter. With them, a read finds a record."""
        parameters = operation.path_parameters
        candidates = [self._snapshot.keys(parameter.collection) for parameter in parameters]
        combinations = islice(product(*candidates), MAX_PATH_CANDIDATES)
        ids = next(ids for ids in combinations if self._finds(operation.route, ids))
        return {parameter.name: each for parameter, each in zip(parameters, ids, strict=True)}

    def _finds(self, route: object, ids: tuple[str, ...]) -> bool:
        """Return True if a read of the path finds a record. Writes accept any id."""
        if not isinstance(route, ReadRoute):
            return True
        if not route.parents_exist(self._snapshot, ids, UNRESTRICTED.rows):
            return False
        where = route.condition(self._snapshot, ids)
        return bool(self._snapshot.find(Query(route.resource_type.name, where, limit=1)).total)
