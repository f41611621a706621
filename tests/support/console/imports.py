"""Imports in the console: upload a package, run its job, and read the resulting page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse

from tests.support.console.client import Console
from tests.support.packages import PackageBuilder


def package_bytes(package: PackageBuilder, folder: Path) -> bytes:
    """Return the ZIP file of a package; `folder` is for its file."""
    return package.zip(folder / "package.zip").read_bytes()


def upload(console: Console, content: bytes, name: str = "roster.zip", **fields: Any) -> TestResponse:
    """Send the upload form with a file, and return the page to which it leads."""
    file = FileStorage(io.BytesIO(content), filename=name)
    return console.submit("/imports/upload", action="/imports/upload", package=file, **fields)


def run_upload(console: Console, content: bytes, name: str = "roster.zip", **fields: Any) -> TestResponse:
    """Upload a package, run its job, and return the page of the result."""
    page = upload(console, content, name, **fields)
    return run_jobs(console, page)


def run_jobs(console: Console, page: TestResponse) -> TestResponse:
    """Run the queued jobs, and return the page to which that of a job leads then."""
    console.services.job_worker.run_pending()
    response = console.client.get(page.request.path, headers={"Accept": "text/html"})
    return console.get(response.headers["Location"]) if response.status_code == 303 else response


def job_id_of(page: TestResponse) -> str:
    """Return the id of the job or run that a page shows."""
    return page.request.path.rpartition("/")[2]
