"""`serve` and `demo` as processes: they listen, say where, and end well."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import IO

import pytest

from backends import open_store
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.permissions.scopes import parse_scopes
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import Run, Start

SAMPLE = Path(str(files("chalk_flask.demo")))


def read_until(stream: IO[str] | None, pattern: str) -> re.Match[str]:
    """What a process prints, up to the line that matches."""
    assert stream is not None
    for line in stream:
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"the process ended without printing {pattern}")


def end(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(20)


def get(url: str, token: str) -> dict[str, list[dict[str, object]]]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as response:
        answer: dict[str, list[dict[str, object]]] = json.load(response)
    return answer


def new_token(folder: Path) -> str:
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store:
        token, _ = TokenStore(store).create("a test", parse_scopes(["all"]))
    assert token is not None
    return token


@pytest.mark.parametrize("storage", ["memory:", "sqlite:///chalk.db", "json:///chalk"])
def test_the_demo_prints_a_curl_line_that_works_as_it_stands_and_ends_with_zero(storage: str, start: Start) -> None:
    with start("demo", "--storage", storage, "--port", "0") as process:
        _, _, header, url = shlex.split(read_until(process.stdout, r"(curl .*)")[1])
        users = get(url, header.removeprefix("Authorization: Bearer "))["users"]
        assert len(users) == 2
        assert end(process) == 0


def test_the_service_says_where_it_listens_and_ends_with_zero(start: Start, tmp_path: Path) -> None:
    token = new_token(tmp_path)
    with start("serve", "--port", "0", "--import", SAMPLE) as process:
        url = read_until(process.stderr, r"Listening on (http://127\.0\.0\.1:[0-9]+)")[1]
        assert len(get(f"{url}/ims/oneroster/v1p1/orgs", token)["orgs"]) > 2
        assert end(process) == 0


def test_a_token_that_is_revoked_elsewhere_ends_at_its_next_request(run: Run, start: Start) -> None:
    made = run("token", "create", "--label", "x", "--json").json
    with start("serve", "--port", "0") as process:
        orgs = read_until(process.stderr, r"Listening on (.*) \(")[1] + "/ims/oneroster/v1p1/orgs"
        assert get(orgs, made["token"]) == {"orgs": []}
        assert run("token", "revoke", made["id"]).code == 0
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(orgs, made["token"])
        assert end(process) == 0


def test_a_package_that_is_refused_is_not_served(start: Start, tmp_path: Path) -> None:
    package = Path(shutil.copytree(SAMPLE, tmp_path / "package"))
    (package / "users.csv").write_text("nonsense\n")
    with start("serve", "--storage", "memory:", "--port", "0", "--import", package) as process:
        out, err = process.communicate(timeout=20)
        assert process.returncode == 1
        assert out == ""
        assert "Refused" in err
        assert "users.csv" in err
        assert "Listening" not in err


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_port_that_is_taken_is_said_in_a_line(command: str, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(command, "--port", port) as process:
            out, err = process.communicate(timeout=20)
            assert process.returncode == 1
            assert out == ""
            assert err.startswith(f"Error: cannot listen on host 127.0.0.1, port {port}: ")
            assert "Traceback" not in err


def test_the_demo_without_serving_leaves_a_store_and_a_token(run: Run, tmp_path: Path) -> None:
    made = run("demo", "--no-serve", "--json").json
    assert (made["state"], made["storage"]) == ("committed", "sqlite:///chalk.db")
    assert made["next"] == "chalk-flask serve"
    checked = run("check", "--json").json
    assert checked["ok"], checked["problems"]
    assert set(checked["counts"]) == {path.stem for path in SAMPLE.glob("*.csv")} - {
        "manifest",
        "classResources",
        "courseResources",
    }
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        grant = TokenStore(store).authenticate(made["token"])[0]
    assert grant is not None
    assert len(grant.scopes) == 7


def test_a_second_demo_changes_nothing_and_names_the_next_command(run: Run) -> None:
    run("demo", "--no-serve", "--storage", "json:///a folder")
    ran = run("demo", "--no-serve", "--storage", "json:///a folder")
    assert ran.code == 0
    assert "(unchanged)" in ran.out
    assert "chalk-flask serve --storage 'json:///a folder'" in ran.out


def test_a_demo_that_keeps_nothing_and_serves_nothing_is_refused(run: Run) -> None:
    ran = run("demo", "--no-serve", "--storage", "memory:", "--json")
    assert (ran.code, ran.json["error"]) == (1, "refused")


def test_the_demo_replaces_nobodys_roster(run: Run, tmp_path: Path) -> None:
    package = Path(shutil.copytree(SAMPLE, tmp_path / "package"))
    for path in package.glob("*.csv"):
        path.write_text(path.read_text(encoding="utf-8").replace("org-district", "org-other"), encoding="utf-8")
    assert run("import", package).code == 0
    before = run("check", "--json").json
    ran = run("demo", "--no-serve", "--json")
    assert (ran.code, ran.json["error"]) == (1, "refused")
    assert "already has a roster" in ran.json["message"]
    served = run("demo", "--port", "0")
    assert (served.code, served.out) == (1, "")
    assert run("check", "--json").json == before
    assert run("token", "list", "--json").json == {"tokens": []}
