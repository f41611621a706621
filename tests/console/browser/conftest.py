"""Service with a district of 10,000 users, and a browser in which its administrator is signed in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from bench.district import write_package
from tests.e2e.conftest import RunningService, run_command, serve
from tests.support.console.browser import DESKTOP, Console

USERS = 10_000
NAME = "kim"
EMPTY_TENANT = "west"


@dataclass(frozen=True)
class District:
    """Running service of a district, its folder and the password of its administrator."""

    service: RunningService
    folder: Path
    password: str

    @property
    def url(self) -> str:
        """URL of the service."""
        return f"http://127.0.0.1:{self.service.port}"


@pytest.fixture(scope="session")
def district(tmp_path_factory: pytest.TempPathFactory) -> Iterator[District]:
    folder = tmp_path_factory.mktemp("console")
    write_package(USERS, folder / "district.zip")
    run_command(folder, "import", folder / "district.zip")
    _hold_package(folder)
    run_command(folder, "tenant", "create", EMPTY_TENANT)
    created = json.loads(run_command(folder, "admin", "create", NAME, "--operator", "--json"))
    token = json.loads(run_command(folder, "token", "create", "--label", "Reading app", "--json"))["token"]
    patience = ("--query-milliseconds", "30000")  # on a busy machine too
    with serve(folder, token, "--webhook-allowed-hosts", "127.0.0.1", *patience) as service:
        yield District(service, folder, created["password"])


def _hold_package(folder: Path) -> None:
    """Import a package without most of the enrollments, which is held for approval."""
    held = folder / "held.zip"
    with zipfile.ZipFile(folder / "district.zip") as full, zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in full.namelist():
            lines = full.read(name).splitlines(keepends=True)
            archive.writestr(name, b"".join(lines[: len(lines) // 3] if name == "enrollments.csv" else lines))
    run_command(folder, "import", held, exit_code=3)


@pytest.fixture
def signed_out(browser: Browser, district: District) -> Iterator[Console]:
    """Console in a new window without a signed-in administrator. At the end, no script may have failed."""
    with browser.new_context(viewport=DESKTOP, reduced_motion="reduce") as context:
        console = Console(context.new_page(), district.url)
        yield console
        assert console.complaints == []


@pytest.fixture
def console(signed_out: Console, district: District) -> Console:
    """Console in a new window, in which the administrator is signed in."""
    signed_out.sign_in(NAME, district.password)
    return signed_out
