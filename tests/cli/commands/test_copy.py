"""Command `copy`: a copied service gives the same responses as its source."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Flask

from backends import Backend, Compare, OrderBy, Query, Record, Scalar, copy_store, open_store
from backends.base import Snapshot
from chalk_flask import create_app
from chalk_flask.roster.changes.sequence import last_sequence
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.settings.data_folder import STORE_ID_FILE
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import SAMPLE, RunCommand
from tests.conftest import services_of, url_in
from tests.support.api_client import CHALK, Consumer
from tests.support.packages import PackageBuilder

DUE_DATE = "2026-09-01T10:00:00.000Z"
QUERY_COUNT = 100

PAIRS = [("json", "sqlite"), ("sqlite", "json")]


class ServiceInUse:
    """Service with two tenants, credentials of every kind, and changes by imports and by a grade tool."""

    def __init__(self, run: RunCommand, folder: Path, kind: str) -> None:
        self.url, self.data, self.run, self.folder = url_in(folder / "old", kind), str(folder / "data"), run, folder
        (folder / "old").mkdir()
        run("import", SAMPLE, "--storage", self.url)
        run("tenant", "create", "north", "--demographics", "--storage", self.url)
        run("tenant", "create", "empty", "--storage", self.url)
        for changed in ("Ada", "Grace"):
            package = PackageBuilder().set("users", "pupil-1", givenName=changed).zip(folder / "package.zip")
            assert run("import", package, "--tenant", "north", "--storage", self.url).code == 0
        self.token, self.north_token = self.credential("default"), self.credential("north")
        args = ("--label", "x", "--scope", "all", "--oauth1", "--json", "--data", self.data, "--storage", self.url)
        self.client = run("client", "create", *args).json
        self.revoked = self.credential("default", "revoked")
        tokens = run("token", "list", "--json", "--storage", self.url).json["tokens"]
        [revoked_id] = [token["id"] for token in tokens if token["label"] == "revoked"]
        assert run("token", "revoke", revoked_id, "--storage", self.url).code == 0
        self.write_grades()

    def credential(self, tenant: str, label: str = "reader") -> str:
        args = ("--label", label, "--tenant", tenant, "--scope", "all", "--json", "--storage", self.url)
        return str(self.run("token", "create", *args).json["token"])

    def write_grades(self) -> None:
        app = create_app(storage=self.url, data=self.data)
        for number in range(3):
            title = {"title": f"Quiz {number}", "class": {"sourcedId": "class-1"}, "resultValueMin": 0}
            body = {"lineItem": title | {"assignDate": DUE_DATE, "dueDate": DUE_DATE, "resultValueMax": 9}}
            path, head = f"{CHALK}/lineItems/tool-{number}", {"Authorization": f"Bearer {self.north_token}"}
            assert app.test_client().put(path, json=body, headers=head).status_code == 201
        assert Consumer(app, self.north_token).get(f"{CHALK}/lineItems/tool-0", method="DELETE").status_code == 204
        services_of(app).store.close()

    def create_app(self, url: str) -> tuple[Flask, Backend]:
        """Return an application with the store of the service, or with its copy and a copy of the folder `data`."""
        data = Path(self.data)
        if url != self.url:
            data = shutil.copytree(data, self.folder / "copied-data", ignore=shutil.ignore_patterns(STORE_ID_FILE))
        app = create_app(storage=url, data=str(data))
        return app, services_of(app).store


def read_records(store: Backend, tenant: str) -> dict[str, list[Record]]:
    with store.read(tenant) as snapshot:
        return {collection.name: list(snapshot.scan(collection.name)) for collection in COLLECTIONS}


def random_queries(snapshot: Snapshot, generator: random.Random) -> Iterator[Query]:
    """Yield queries that compare a field with the value of a stored record, in various orders."""
    candidates = [
        (collection, record) for collection in COLLECTIONS for record in snapshot.scan(collection.name) if record.values
    ]
    for _ in range(QUERY_COUNT):
        collection, record = generator.choice(candidates)
        path, value = generator.choice(sorted(record.values.items(), key=lambda item: item[0]))
        key = cast(Scalar, value[0] if isinstance(value, tuple) else value)
        order = OrderBy(generator.choice(sorted(record.values)), generator.random() < 0.5)
        condition = Compare(path, generator.choice(["=", "<", "<=", ">", ">="]), key)
        yield Query(collection.name, condition, (order,), generator.randrange(3), generator.choice([None, 1, 20]))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_copied_service_gives_the_same_responses(source: str, target: str, run: RunCommand, tmp_path: Path) -> None:
    service, url = ServiceInUse(run, tmp_path, source), url_in(tmp_path / "new", target)
    copied = run("copy", service.url, url, "--json")
    assert copied.code == 0, copied.err
    (before_app, before), (app, after) = service.create_app(service.url), service.create_app(url)
    assert set(copied.json["tenants"]) == {"_control", "default", "north"}
    assert copied.json["total"] == sum(sum(counts.values()) for counts in copied.json["tenants"].values())
    for tenant in ("_control", "default", "north", "empty"):
        assert read_records(after, tenant) == read_records(before, tenant)
        assert check_store(after, tenant) == check_store(before, tenant)
        assert check_store(after, tenant).problems == []
    with before.read("north") as source_snapshot, after.read("north") as target_snapshot:
        for query in random_queries(source_snapshot, random.Random(11)):
            assert target_snapshot.find(query).body() == source_snapshot.find(query).body()
        assert last_sequence(target_snapshot) == last_sequence(source_snapshot) > 0
        assert target_snapshot.revision > source_snapshot.revision
    source_client, client = Consumer(before_app, service.north_token), Consumer(app, service.north_token)
    for path in ("/users?limit=1000", "/lineItems?filter=status='tobedeleted'", f"{CHALK}/changes?since=1"):
        assert client.get(path).data == source_client.get(path).data
    assert get_changes(client, "since=1")["changes"][-1]["type"] == "lineItem.deleted"
    check_change_feed_continues(run, service, url, client)
    check_credentials(app, service)
    for store in (before, after):
        store.close()


def get_changes(consumer: Consumer, query: str) -> dict[str, Any]:
    response = consumer.get(f"{CHALK}/changes?{query}")
    assert response.status_code == 200, response.text
    return cast(dict[str, Any], response.json)


def check_change_feed_continues(run: RunCommand, service: ServiceInUse, url: str, client: Consumer) -> None:
    """Assert that the change feed continues after an import, which keeps the records of a grade tool."""
    since = get_changes(client, "since=latest")["sequence"]
    package = PackageBuilder().set("users", "pupil-1", givenName="Hedy").zip(service.folder / "next.zip")
    assert run("import", package, "--tenant", "north", "--storage", url).code == 0
    following = get_changes(client, f"since={since}")
    changed = [(change["sourcedId"], change["sequence"] > since) for change in following["changes"]]
    assert changed == [("pupil-1", True)]
    assert client.get("/lineItems/tool-1").status_code == 200


def check_credentials(app: Flask, service: ServiceInUse) -> None:
    """Assert that valid tokens and clients are accepted, and a revoked token is rejected."""
    assert Consumer(app, service.token).get("/orgs").status_code == 200
    assert Consumer(app, service.revoked).get("/orgs").status_code == 401
    credentials = {key: service.client[key] for key in ("client_id", "client_secret")}
    response = app.test_client().post("/oauth/token", data={"grant_type": "client_credentials", **credentials})
    assert response.status_code == 200, response.text
    assert response.json is not None
    assert Consumer(app, response.json["access_token"]).get("/orgs").status_code == 200


def test_copy_through_memory_keeps_every_record(tmp_path: Path, run: RunCommand) -> None:
    run("import", SAMPLE)
    urls = (f"sqlite:///{tmp_path}/chalk.db", "memory:", f"json:///{tmp_path}/j")
    with ExitStack() as stack:
        source, memory, target = (stack.enter_context(open_store(url, COLLECTIONS)) for url in urls)
        copy_store(source, memory)
        copy_store(memory, target)
        assert read_records(memory, "default") == read_records(target, "default") == read_records(source, "default")
        assert check_store(target) == check_store(memory) == check_store(source)


def file_hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_copy_reports_counts_and_leaves_the_source_unchanged(run: RunCommand, tmp_path: Path) -> None:
    run("import", SAMPLE)
    before = file_hash(tmp_path / "chalk.db")
    result = run("copy", "sqlite:///chalk.db", "json:///copied")
    assert result.code == 0
    assert "users                       77" in result.out
    assert result.out.splitlines()[-1].endswith("/copied.")
    assert file_hash(tmp_path / "chalk.db") == before
    assert run("check", "--storage", "json:///copied").code == 0


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("memory:", "json:///b", "memory: loses its data"),
        ("sqlite:///chalk.db", "memory:", "memory: loses its data"),
        ("json:///nowhere", "json:///b", "there is no store to copy at /"),
        ("sqlite:///chalk.db", "sqlite:///./x/../chalk.db", "are the same store"),
        ("sqlite:///chalk.db", "redis://b", "no backend for 'redis'"),
        ("sqlite:///chalk.db", "json://b", "'json://b' names no file"),
        ("sqlite:///chalk.db", "json://user:x@host/", "the json URL names no file"),
        ("sqlite:///chalk.db", "json:///b?password=x", "the json URL names no file"),
    ],
)
def test_impossible_copy_is_rejected_and_creates_nothing(
    source: str, target: str, message: str, run: RunCommand, tmp_path: Path
) -> None:
    run("import", SAMPLE)
    files = sorted(path.name for path in tmp_path.iterdir())
    result = run("copy", source, target, "--json")
    assert result.code == (2 if "loses its data" in message else 1)
    assert message in result.json["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_target_that_is_not_empty_is_rejected_and_unchanged(run: RunCommand, tmp_path: Path) -> None:
    run("import", SAMPLE)
    open_store(f"json:///{tmp_path}/b", COLLECTIONS).close()
    run("token", "create", "--label", "x", "--storage", "json:///b")
    for options in ([], ["--restart"]):
        result = run("copy", "sqlite:///chalk.db", "json:///b", *options)
        assert result.code == 1
        assert "json:///b is unchanged: the target of the copy already contains tokens" in result.err
    assert run("token", "list", "--json", "--storage", "json:///b").json["tokens"][0]["label"] == "x"
    assert run("check", "--storage", "json:///b", "--json").json["counts"] == {}


def test_unfinished_copy_is_rejected_until_it_is_restarted(
    run: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("import", SAMPLE)
    url = url_in(tmp_path / "half", "json")
    with monkeypatch.context() as patched:
        patched.setattr("backends.copy._PROGRESS_INTERVAL_RECORDS", 1)
        patched.setattr("chalk_flask.cli.commands.copy.progress_line", InterruptedProgress)
        assert run("copy", "sqlite:///chalk.db", url).code == 1
    for args in (["check"], ["export", "x.zip"], ["import", str(SAMPLE)], ["token", "list"], ["tenant", "list"]):
        result = run(*args, "--storage", url)
        assert result.code == 1
        assert "not finished" in result.err
    result = run("serve", "--storage", url, "--port", "0")
    assert (result.code, "not finished" in result.err) == (1, True)
    retry = run("copy", "sqlite:///chalk.db", url)
    assert retry.code == 1
    assert f"{url}: this store is a copy that is not finished" in retry.err
    assert "--restart" in retry.err
    assert run("copy", url, "json:///c").code == 1
    assert run("copy", "sqlite:///chalk.db", url, "--restart").code == 0
    states = [run("check", "--json", "--storage", storage).json["state"] for storage in (url, "sqlite:///chalk.db")]
    assert states[0] == states[1]


class InterruptedProgress:
    """Progress line that raises KeyboardInterrupt at the fiftieth record."""

    def __enter__(self) -> Any:
        return self.show

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, _: str, rows: int, expected_count: int | None) -> None:
        if rows == 50:
            raise KeyboardInterrupt
