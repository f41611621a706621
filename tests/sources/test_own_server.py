"""Syncs with a real server of this repository, with each kind of credential: the rosters are equal record by record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from backends import Query, open_store
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.secrets import SecretCipher
from chalk_flask.auth.tokens import TokenStore
from chalk_flask.permissions.scopes import ALL
from chalk_flask.roster.tenant_imports import run_import
from chalk_flask.settings import load_settings
from chalk_flask.sources import SourceError
from chalk_flask.sources.pull import REQUIRED_COLLECTIONS as PULLED
from chalk_flask.storage import COLLECTIONS
from tests.sources.conftest import Puller
from tests.support.server_process import free_port, server_process

pytestmark = pytest.mark.slow

APP = "from chalk_flask import create_app\napp = create_app()\n"


@dataclass(frozen=True)
class Upstream:
    """Running server with the sample district."""

    url: str
    storage: str
    members: dict[str, dict[str, Any]]
    """Members of the source for each kind of credential."""

    def records(self, name: str) -> dict[str, dict[str, Any]]:
        with open_store(self.storage, COLLECTIONS) as store, store.read("default") as snapshot:
            bodies = json.loads(b"[%s]" % snapshot.find(Query(name)).body())
        return {body["sourcedId"]: body for body in bodies}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    folder = tmp_path_factory.mktemp("upstream")
    settings = load_settings({"storage": f"sqlite:///{folder}/chalk.db", "data": str(folder / "data")})
    with open_store(settings.storage, COLLECTIONS) as store:
        report = run_import(store, settings, Path(str(files("chalk_flask") / "demo")), "default")
        assert report.state == "committed"
        cipher = SecretCipher(settings.data)
        client_secret, client = ClientStore(store, cipher=cipher).create("Oak", ALL)
        signing_secret, signer = ClientStore(store, cipher=cipher).create("Elm", ALL, oauth1=True)
        token, _ = TokenStore(store).create("Ash", ALL)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environ = {"CHALK_STORAGE": settings.storage, "CHALK_DATA": settings.data, "CHALK_PUBLIC_URL": url}
    members = {
        "oauth2": {"client_id": client.id, "secret": client_secret},
        "oauth1": {"client_id": signer.id, "secret": signing_secret},
        "bearer": {"client_id": None, "secret": token},
    }
    with server_process(APP, **environ, CHALK_PORT=str(port)):
        yield Upstream(f"{url}/ims/oneroster/v1p1", settings.storage, members)


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """Return the members that a sync copies. Links to learning resources are not among them."""
    return {name: value for name, value in record.items() if name not in ("dateLastModified", "resources")}


@pytest.mark.parametrize("auth", ["oauth2", "oauth1", "bearer"])
def test_roster_of_a_real_server_is_copied(puller: Puller, upstream: Upstream, auth: str) -> None:
    puller.add(upstream.url, auth=auth, **upstream.members[auth])
    assert puller.sync().state == "committed"
    for name in (*PULLED, "demographics"):
        theirs = {key: comparable(record) for key, record in upstream.records(name).items()}
        assert len(theirs) > 1
        assert {key: comparable(record) for key, record in puller.records(name).items()} == theirs
    assert puller.sync().state == "unchanged"
    assert puller.sync(full=True).state == "unchanged"


def test_signature_for_another_url_than_the_public_one_is_explained(puller: Puller, upstream: Upstream) -> None:
    other = upstream.url.replace("127.0.0.1", "localhost")
    puller.add(other, auth="oauth1", **upstream.members["oauth1"])
    with pytest.raises(SourceError, match="with the status 401; the credential or the signature") as rejected:
        puller.sync()
    assert "public_url, and its client must be created with `client create --oauth1`" in str(rejected.value)


def test_wrong_secret_is_rejected_by_a_real_server(puller: Puller, upstream: Upstream) -> None:
    puller.add(upstream.url, client_id=upstream.members["oauth2"]["client_id"], secret="wrong-secret")
    with pytest.raises(SourceError, match="rejects the client at its token endpoint"):
        puller.sync()
    assert "wrong-secret" not in str(puller.source().last_error)
