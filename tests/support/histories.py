"""Random changes of the small roster, and a full read of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from flask import Flask

from chalk_flask.oneroster.schemas import RESOURCES
from chalk_flask.roster.imports import ImportOptions, import_package
from chalk_flask.roster.imports.thresholds import DISABLED
from tests.conftest import services_of
from tests.support.api_client import CHALK, Consumer
from tests.support.packages import PackageBuilder

UNLIMITED = ImportOptions(thresholds=DISABLED)

CHANGE_TIME = "2026-09-01T10:00:00.000Z"


def load(app: Flask, package: PackageBuilder, folder: Path) -> str:
    """Import a package into the store of an application and return the state of the import."""
    report = import_package(services_of(app).store, "default", package.folder(folder / "package"), UNLIMITED)
    return report.state


def read_all(consumer: Consumer) -> dict[tuple[str, str], Any]:
    """Return all records that a client can read, including deleted ones, by class name and id."""
    records = {}
    for name, resource_type in RESOURCES.items():
        response = consumer.get(f"{CHALK}/{name}?filter=dateLastModified>'2000-01-01'")
        assert response.status_code == 200, response.text
        assert response.json is not None
        for record in response.json[name]:
            records[resource_type.singular_name, record["sourcedId"]] = record
    return records


class RandomChanges:
    """Generator of random changes by bulk imports, delta imports and a grade tool."""

    def __init__(self, app: Flask, folder: Path, seed: int) -> None:
        self.app, self.folder = app, folder
        self.random = random.Random(seed)
        self.tool = Consumer(app)
        self.number = 0

    def step(self) -> None:
        """Make one random change."""
        self.random.choice([self.import_bulk, self.import_delta, self.put_line_item, self.delete_line_item])()

    def import_bulk(self) -> None:
        """Import a bulk package with a random selection of rows."""
        package = PackageBuilder()
        for name in ("results", "enrollments", "classResources"):
            package.rows[name] = [row for row in package.rows[name] if self.random.random() < 0.6]
        package.set("users", "pupil-1", givenName=self.random.choice(["Ada", "Bo", "Cy"]))
        assert load(self.app, package, self.folder) in ("committed", "unchanged")

    def import_delta(self) -> None:
        """Import a delta file with three orgs, some of them deleted."""
        package = PackageBuilder().only("orgs")
        package.properties["file.orgs"] = "delta"
        base = {
            "dateLastModified": CHANGE_TIME,
            "name": self.random.choice("xyz"),
            "type": "school",
            "parentSourcedId": "org-1",
        }
        package.rows["orgs"] = [
            {**base, "sourcedId": f"more-{n}", "status": self.random.choice(["active", "tobedeleted"])}
            for n in range(3)
        ]
        assert load(self.app, package, self.folder) in ("committed", "unchanged")

    def put_line_item(self) -> None:
        """Create or replace one of three line items."""
        item = {
            "title": self.random.choice("abc"),
            "assignDate": CHANGE_TIME,
            "dueDate": CHANGE_TIME,
            "class": {"sourcedId": "class-1"},
            "resultValueMin": 0,
            "resultValueMax": 9,
        }
        path = f"{CHALK}/lineItems/tool-{self.random.randrange(3)}"
        response = self.tool.client.put(
            path, json={"lineItem": item}, headers={"Authorization": f"Bearer {self.tool.token}"}
        )
        assert response.status_code in (200, 201), response.text

    def delete_line_item(self) -> None:
        """Delete one of three line items, if it exists."""
        response = self.tool.get(f"{CHALK}/lineItems/tool-{self.random.randrange(3)}", method="DELETE")
        assert response.status_code in (204, 404), response.text
