"""Command `demo`: a sample district, served from any backend."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from oauthlib.oauth1 import Client

from backends import open_store
from chalk_flask.admins import Administrator, AdministratorStore
from chalk_flask.admins.passwords import PASSWORD_HASHER
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import SAMPLE, RunCommand, StartCommand, get_json, stop_process
from tests.support.server_process import read_until


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["memory:", "sqlite:///chalk.db"])
def test_demo_prints_a_working_curl_command_and_exits_with_0(storage: str, start: StartCommand) -> None:
    with start("demo", "--storage", storage, "--port", "0") as process:
        assert process.stdout.readline().startswith("Loaded the sample district into ")
        address = read_until(process.stdout, "address +(.*)")[1]
        assert read_until(process.stdout, "name +(.*)")[1] == "admin"
        assert len(read_until(process.stdout, "password +(.*)")[1]) == 19
        _, _, header, url = shlex.split(read_until(process.stdout, r"(curl .*)")[1])
        assert address == f"{url.partition('/ims/')[0]}/"
        users = get_json(url, header.removeprefix("Authorization: Bearer "))["users"]
        assert len(users) == 2
        assert stop_process(process) == 0
        assert process.stderr.read() == ""


@pytest.mark.slow
def test_demo_json_prints_one_object_and_serves_until_it_is_stopped(start: StartCommand) -> None:
    with start("demo", "--storage", "memory:", "--port", "0", "--json") as process:
        printed = json.loads(process.stdout.readline())
        assert (printed["state"], printed["storage"], printed["administrator"]) == ("committed", "memory:", "admin")
        assert len(printed["password"]) == 19
        assert len(get_json(f"{printed['url']}/ims/oneroster/v1p1/users", printed["token"])["users"]) == 77
        assert stop_process(process) == 0
        assert process.stdout.read() + process.stderr.read() == ""


@pytest.mark.slow
@pytest.mark.reading("O-01")
def test_demo_accepts_signatures_for_its_own_address(run: RunCommand, start: StartCommand) -> None:
    with start("demo", "--port", "0") as process:
        url = shlex.split(read_until(process.stdout, r"(curl .*)")[1])[-1]
        created = run("client", "create", "--label", "x", "--oauth1", "--json").json
        signer = Client(created["client_id"], created["client_secret"])
        site = url.partition("/ims/")[0]
        for signed, status in ((url, 200), (url.replace(site, "http://other.example.org"), 401)):
            header = signer.sign(signed)[1]["Authorization"]
            response = requests.get(url, headers={"Authorization": header, "Host": urlsplit(signed).netloc}, timeout=30)
            assert response.status_code == status, response.text
        assert stop_process(process) == 0


def test_demo_no_serve_creates_a_store_and_a_token(run: RunCommand, tmp_path: Path) -> None:
    created = run("demo", "--no-serve", "--json").json
    assert (created["state"], created["storage"]) == ("committed", f"{tmp_path}/chalk.db")
    assert created["next"] == "chalk-flask serve"
    checked = run("check", "--json").json
    assert checked["ok"], checked["problems"]
    assert set(checked["counts"]) == {path.stem for path in SAMPLE.glob("*.csv")} - {
        "manifest",
        "classResources",
        "courseResources",
    }
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store:
        grant = TokenStore(store).authenticate(created["token"])[0]
    assert grant is not None
    assert len(grant.scopes) == 7


def test_second_demo_changes_nothing_and_names_the_next_command(run: RunCommand, tmp_path: Path) -> None:
    run("demo", "--no-serve", "--storage", "json:///a folder")
    result = run("demo", "--no-serve", "--storage", "json:///a folder")
    assert result.code == 0
    assert result.out.startswith(f"The sample district is already in {tmp_path}/a folder.\n")
    assert "chalk-flask serve --storage 'json:///a folder'" in result.out


def test_second_demo_revokes_the_token_of_the_first(run: RunCommand) -> None:
    first = run("demo", "--no-serve", "--json").json
    own = run("token", "create", "--label", "demo", "--expires", "12h", "--json").json
    second = run("demo", "--no-serve", "--json").json
    states = {token["id"]: token["state"] for token in run("token", "list", "--json").json["tokens"]}
    assert states == {first["id"]: "revoked", own["id"]: "active", second["id"]: "active"}


def administrator_of(folder: Path) -> Administrator:
    with open_store(f"sqlite:///{folder}/chalk.db", COLLECTIONS) as store:
        [administrator] = AdministratorStore(store, SecretCipher(folder)).list()
    return administrator


def test_demo_sets_the_password_of_an_operator_at_each_start(run: RunCommand, tmp_path: Path) -> None:
    former = ""
    for _ in range(2):
        created = run("demo", "--no-serve", "--json").json
        administrator = administrator_of(tmp_path)
        assert (created["administrator"], administrator.name, administrator.role) == ("admin", "admin", "owner")
        assert administrator.is_operator
        assert PASSWORD_HASHER.verify(administrator.password_hash, created["password"])
        assert created["password"] != former
        former = created["password"]
    assert "name      admin\n  password  " in run("demo", "--no-serve").out


@pytest.mark.usefixtures("empty_store")
def test_demo_replaces_an_administrator_who_is_no_owner(run: RunCommand, tmp_path: Path) -> None:
    assert run("admin", "create", "admin", "--role", "viewer").code == 0
    created = run("demo", "--no-serve", "--json").json
    administrator = administrator_of(tmp_path)
    assert (administrator.tenant, administrator.role) == (None, "owner")
    assert PASSWORD_HASHER.verify(administrator.password_hash, created["password"])


def test_demo_without_the_console_creates_no_administrator(run: RunCommand) -> None:
    assert "password" not in run("demo", "--no-serve", "--console", "false", "--json").json
    assert run("admin", "list", "--json").json == {"administrators": []}


def test_demo_no_serve_in_memory_is_rejected(run: RunCommand) -> None:
    result = run("demo", "--no-serve", "--storage", "memory:", "--json")
    assert (result.code, result.json["error"]) == (2, "usage")


def test_demo_does_not_replace_a_roster(run: RunCommand, tmp_path: Path) -> None:
    package = Path(shutil.copytree(SAMPLE, tmp_path / "package"))
    for path in package.glob("*.csv"):
        path.write_text(path.read_text(encoding="utf-8").replace("org-district", "org-other"), encoding="utf-8")
    assert run("import", package).code == 0
    before = run("check", "--json").json
    result = run("demo", "--no-serve", "--json")
    assert (result.code, result.json["error"]) == (1, "refused")
    assert "already has a roster" in result.json["message"]
    served = run("demo", "--port", "0")
    assert (served.code, served.out) == (1, "")
    assert run("check", "--json").json == before
    assert run("token", "list", "--json").json == {"tokens": []}
