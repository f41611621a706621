"""Packages that are uploaded in the console of a running service, by good and bad clients."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import requests

from backends import Backend, open_store
from chalk_flask.admins.roles import Role
from chalk_flask.jobs import JobStore
from chalk_flask.settings import Settings, load_settings
from chalk_flask.storage import COLLECTIONS
from tests.e2e.conftest import CLEAN_ENVIRON, ROOT
from tests.support.console.client import visible_text
from tests.support.console.uploads import UPLOAD_PATH, send_package, signed_in_browser
from tests.support.deliveries import wait_until
from tests.support.packages import PackageBuilder

pytestmark = pytest.mark.slow

PADDING = os.urandom(3 << 20)
"""Content of a file in a package that makes it larger than other bodies."""


class ServingProcess(NamedTuple):
    """Process of a service, and its URL."""

    url: str
    pid: int


class UploadService:
    """Running service, its store, and browsers of its administrators."""

    def __init__(self, process: ServingProcess, store: Backend, settings: Settings) -> None:
        self.url, self.pid, self.store = process.url, process.pid, store
        self.jobs = JobStore.of(store, settings)
        self._data = settings.data

    def browser(self, role: Role = "owner") -> requests.Session:
        """Return a browser in which a new administrator is signed in."""
        return signed_in_browser(self.store, self._data, role)

    def upload(self, browser: requests.Session, content: bytes) -> requests.Response:
        """Fill in the form and send a package."""
        return send_package(browser, self.url, content)

    @property
    def peak_kib(self) -> int:
        """Largest amount of memory that the process has used so far."""
        return int(Path(f"/proc/{self.pid}/status").read_text().partition("VmHWM:")[2].split()[0])

    @property
    def files(self) -> list[str]:
        """Names of the files in the folder of the jobs."""
        return [path.name for path in self.jobs.folder.rglob("*upload-*")]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[UploadService]:
    settings = load_settings({"storage": f"sqlite:///{tmp_path}/chalk.db", "data": str(tmp_path / "data")})
    with open_store(settings.storage, COLLECTIONS) as store, _running_server(tmp_path, settings) as process:
        yield UploadService(process, store, settings)


@contextmanager
def _running_server(folder: Path, settings: Settings) -> Iterator[ServingProcess]:
    options = ["--port", "0", "--storage", settings.storage, "--data", settings.data]
    with subprocess.Popen(
        [sys.executable, "-m", "chalk_flask", "serve", *options],
        cwd=folder,
        env=CLEAN_ENVIRON | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr
            for line in process.stderr:
                if found := re.search(r"Listening on (\S+)", line):
                    yield ServingProcess(found[1], process.pid)
                    break
        finally:
            process.kill()


def large_package(parts: int = 1) -> bytes:
    """Return a valid package of about 3 MiB for each part."""
    content = io.BytesIO(PackageBuilder().zip_bytes())
    with zipfile.ZipFile(content, "a") as archive:
        for number in range(parts):
            archive.writestr(f"notes-{number}.bin", PADDING)
    return content.getvalue()


def test_uploaded_package_is_imported(service: UploadService) -> None:
    response = service.upload(service.browser("editor"), large_package())
    assert response.status_code == 303, visible_text(response.text)
    [job] = service.jobs.list("default")
    assert response.headers["Location"].endswith(job.id)
    wait_until(lambda: not service.jobs.list_active("default"), 180)
    [job] = service.jobs.list("default")
    assert job.result == "committed", job.report
    wait_until(lambda: not service.files)


def test_upload_that_is_no_zip_is_explained(service: UploadService) -> None:
    browser = service.browser()
    for content, message in (
        (PADDING, "upload a ZIP file"),
        (large_package()[:-40], "it was not transferred completely"),
    ):
        response = service.upload(browser, content)
        assert response.status_code == 422
        assert message in visible_text(response.text)
        assert service.jobs.list("default") == []
        assert service.files == []


def test_ten_uploads_at_once_are_accepted_or_explained(service: UploadService) -> None:
    browsers = [service.browser() for _ in range(10)]
    package = large_package()
    with ThreadPoolExecutor(10) as pool:
        responses = list(pool.map(lambda browser: service.upload(browser, package), browsers))
    accepted = [response for response in responses if response.status_code == 303]
    busy = [response for response in responses if response.status_code == 503]
    assert len(accepted) >= 2
    assert len(accepted) + len(busy) == 10
    assert all("Nothing was changed" in visible_text(response.text) for response in busy)
    wait_until(lambda: not service.jobs.list_active("default"), 120)
    jobs = service.jobs.list("default")
    assert len(jobs) == len(accepted)
    assert [job.result for job in jobs[::-1]] == ["committed"] + ["unchanged"] * (len(jobs) - 1)
    wait_until(lambda: not service.files)


def test_upload_that_is_cut_off_leaves_nothing(service: UploadService) -> None:
    browser = service.browser()
    address = urlsplit(service.url)
    head = (
        f"POST {UPLOAD_PATH} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Cookie: chalk-session={browser.cookies['chalk-session']}\r\nContent-Length: {len(PADDING)}\r\n\r\n"
    )
    for _ in range(3):
        with socket.create_connection((str(address.hostname), address.port or 0)) as connection:
            connection.sendall(head.encode() + PADDING[: len(PADDING) // 2])
    assert service.jobs.list("default") == []
    assert service.files == []
    wait_until(lambda: service.upload(browser, large_package()).status_code == 303)


def test_large_upload_needs_little_memory(service: UploadService) -> None:
    browser = service.browser()
    assert service.upload(browser, large_package()).status_code == 303
    wait_until(lambda: not service.jobs.list_active("default"), 180)
    before = service.peak_kib
    assert service.upload(browser, large_package(20)).status_code == 303
    assert service.peak_kib - before < 20 * 1024


def test_upload_without_permission_is_explained(service: UploadService) -> None:
    viewer = service.browser("viewer")
    files = {"package": ("district.zip", io.BytesIO(large_package()))}
    rejected = viewer.post(service.url + UPLOAD_PATH, files=files, timeout=60)
    assert rejected.status_code == 403
    assert "Your role, viewer, does not include this page" in visible_text(rejected.text)
    visitor = requests.post(
        service.url + UPLOAD_PATH, files=files, headers={"Accept": "text/html"}, timeout=60, allow_redirects=False
    )
    assert (visitor.status_code, visitor.headers["Location"]) == (303, "/login")
    assert service.jobs.list("default") == []
