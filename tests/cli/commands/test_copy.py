"""A whole service moves to another store: what it answered there, it answers here."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from flask import Flask

from backends import Backend, Compare, Key, OrderBy, Query, Record, copy_store, open_store
from backends.base import Snapshot
from chalk_flask import create_app
from chalk_flask.cli import main
from chalk_flask.roster.changes.sequence import last_sequence
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import Run
from tests.conftest import services_of, url_in
from tests.support.api_client import CHALK, Consumer
from tests.support.packages import PackageBuilder

SAMPLE = Path(str(files("chalk_flask.demo")))
WHEN = "2026-09-01T10:00:00.000Z"
QUERIES = 300

PAIRS = [("json", "sqlite"), ("sqlite", "json"), ("sqlite", "sqlite"), ("json", "json")]


class World:
    """A service in use: two tenants, credentials of every kind, changes by import and by a grade tool."""

    def __init__(self, run: Run, folder: Path, kind: str) -> None:
        self.url, self.data, self.run, self.folder = url_in(folder / "old", kind), str(folder / "data"), run, folder
        (folder / "old").mkdir()
        run("import", SAMPLE, "--storage", self.url)
        run("tenant", "create", "north", "--demographics", "--storage", self.url)
        run("tenant", "create", "empty", "--storage", self.url)
        for changed in ("Ada", "Grace"):
            package = PackageBuilder().set("users", "pupil-1", givenName=changed).zip(folder / "made.zip")
            assert run("import", package, "--tenant", "north", "--storage", self.url).code == 0
        self.token, self.theirs = self.credential("default"), self.credential("north")
        words = ("--label", "x", "--scope", "all", "--oauth1", "--json", "--data", self.data, "--storage", self.url)
        self.client = run("client", "create", *words).json
        self.revoked = self.credential("default", "revoked")
        tokens = run("token", "list", "--json", "--storage", self.url).json["tokens"]
        (unwanted,) = (each["id"] for each in tokens if each["label"] == "revoked")
        assert run("token", "revoke", unwanted, "--storage", self.url).code == 0
        self.write_grades()

    def credential(self, tenant: str, label: str = "reader") -> str:
        words = ("--label", label, "--tenant", tenant, "--scope", "all", "--json", "--storage", self.url)
        return str(self.run("token", "create", *words).json["token"])

    def write_grades(self) -> None:
        app = create_app(storage=self.url, data=self.data)
        for number in range(3):
            title = {"title": f"Quiz {number}", "class": {"sourcedId": "class-1"}, "resultValueMin": 0}
            body = {"lineItem": title | {"assignDate": WHEN, "dueDate": WHEN, "resultValueMax": 9}}
            path, head = f"{CHALK}/lineItems/tool-{number}", {"Authorization": f"Bearer {self.theirs}"}
            assert app.test_client().put(path, json=body, headers=head).status_code == 201
        assert Consumer(app, self.theirs).get(f"{CHALK}/lineItems/tool-0", method="DELETE").status_code == 204
        services_of(app).store.close()

    def served(self, url: str) -> tuple[Flask, Backend]:
        app = create_app(storage=url, data=self.data)
        return app, services_of(app).store


def content(store: Backend, tenant: str) -> dict[str, list[Record]]:
    with store.read(tenant) as at:
        return {each.name: list(at.scan(each.name)) for each in COLLECTIONS}


def queries(at: Snapshot, draw: random.Random) -> Iterator[Query]:
    """Questions about what is there: a value that some record has, compared and in orders of all kinds."""
    held = [(each, record) for each in COLLECTIONS for record in at.scan(each.name) if record.values]
    for _ in range(QUERIES):
        owner, record = draw.choice(held)
        path, value = draw.choice(sorted(record.values.items(), key=lambda item: item[0]))
        single = cast(Key, value[0] if isinstance(value, tuple) else value)
        order = OrderBy(draw.choice(sorted(record.values)), draw.random() < 0.5)
        where = Compare(path, draw.choice(["=", "<", "<=", ">", ">="]), single)
        yield Query(owner.name, where, (order,), draw.randrange(3), draw.choice([None, 1, 20]))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_copied_service_answers_as_before_and_goes_on_from_there(
    source: str, target: str, run: Run, tmp_path: Path
) -> None:
    world, url = World(run, tmp_path, source), url_in(tmp_path / "new", target)
    copied = run("copy", world.url, url, "--json")
    assert copied.code == 0, copied.err
    (before_app, before), (app, after) = world.served(world.url), world.served(url)
    assert set(copied.json["tenants"]) == {"_control", "default", "north"}
    assert copied.json["total"] == sum(sum(each.values()) for each in copied.json["tenants"].values())
    for tenant in ("_control", "default", "north", "empty"):
        assert content(after, tenant) == content(before, tenant)
        assert check_store(after, tenant) == check_store(before, tenant)
        assert check_store(after, tenant).problems == []
    with before.read("north") as was, after.read("north") as now:
        for query in queries(was, random.Random(11)):
            assert now.find(query).body() == was.find(query).body()
        assert last_sequence(now) == last_sequence(was) > 0
        assert now.revision > was.revision
    before_sees, sees = Consumer(before_app, world.theirs), Consumer(app, world.theirs)
    for path in ("/users?limit=1000", "/lineItems?filter=status='tobedeleted'", f"{CHALK}/changes?since=1"):
        assert sees.get(path).data == before_sees.get(path).data
    assert asked(sees, "since=1")["changes"][-1]["type"] == "lineItem.deleted"
    goes_on(run, world, url, sees)
    lets_in(app, world)
    for store in (before, after):
        store.close()


def asked(consumer: Consumer, query: str) -> dict[str, Any]:
    answer = consumer.get(f"{CHALK}/changes?{query}")
    assert answer.status_code == 200, answer.text
    return cast(dict[str, Any], answer.json)


def goes_on(run: Run, world: World, url: str, sees: Consumer) -> None:
    """A follower of the old service goes on with the new one; what a grade tool wrote is still its own."""
    since = asked(sees, "since=latest")["sequence"]
    package = PackageBuilder().set("users", "pupil-1", givenName="Hedy").zip(world.folder / "next.zip")
    assert run("import", package, "--tenant", "north", "--storage", url).code == 0
    following = asked(sees, f"since={since}")
    changed = [(each["sourcedId"], each["sequence"] > since) for each in following["changes"]]
    assert changed == [("pupil-1", True)]
    assert sees.get("/lineItems/tool-1").status_code == 200


def lets_in(app: Flask, world: World) -> None:
    """Tokens and clients are let in as before, and who was not, is not."""
    assert Consumer(app, world.token).get("/orgs").status_code == 200
    assert Consumer(app, world.revoked).get("/orgs").status_code == 401
    credentials = {key: world.client[key] for key in ("client_id", "client_secret")}
    answer = app.test_client().post("/oauth/token", data={"grant_type": "client_credentials", **credentials})
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    assert Consumer(app, answer.json["access_token"]).get("/orgs").status_code == 200


def test_memory_is_copied_by_the_function_and_keeps_every_record(tmp_path: Path, run: Run) -> None:
    run("import", SAMPLE)
    urls = (f"sqlite:///{tmp_path}/chalk.db", "memory:", f"json:///{tmp_path}/j")
    with ExitStack() as stack:
        kept, memory, last = (stack.enter_context(open_store(url, COLLECTIONS)) for url in urls)
        copy_store(kept, memory)
        copy_store(memory, last)
        assert content(memory, "default") == content(last, "default") == content(kept, "default")
        assert check_store(last) == check_store(memory) == check_store(kept)


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_the_source_is_not_written_and_the_copy_is_told(run: Run, tmp_path: Path) -> None:
    run("import", SAMPLE)
    before = digest(tmp_path / "chalk.db")
    ran = run("copy", "sqlite:///chalk.db", "json:///copied")
    assert ran.code == 0
    assert "users                       77" in ran.out
    assert ran.out.splitlines()[-1].endswith("records of 1 tenant to json:///copied.")
    assert digest(tmp_path / "chalk.db") == before
    assert run("check", "--storage", "json:///copied").code == 0


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("memory:", "json:///b", "memory: loses its data"),
        ("sqlite:///chalk.db", "memory:", "memory: loses its data"),
        ("json:///nowhere", "json:///b", "json:///nowhere does not exist"),
        ("sqlite:///chalk.db", "sqlite:///./x/../chalk.db", "are the same store"),
        ("sqlite:///chalk.db", "redis://b", "no backend for 'redis'"),
        ("sqlite:///chalk.db", "json://b", "names no file"),
    ],
)
def test_what_cannot_be_copied_is_refused_and_leaves_no_trace(
    source: str, target: str, message: str, run: Run, tmp_path: Path
) -> None:
    run("import", SAMPLE)
    files = sorted(path.name for path in tmp_path.iterdir())
    ran = run("copy", source, target, "--json")
    assert ran.code == 1
    assert message in ran.json["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_a_store_that_holds_anything_is_refused_and_left_as_it_is(run: Run, tmp_path: Path) -> None:
    run("import", SAMPLE)
    run("token", "create", "--label", "x", "--storage", "json:///b")
    for more in ([], ["--restart"]):
        ran = run("copy", "sqlite:///chalk.db", "json:///b", *more)
        assert ran.code == 1
        assert "json:///b is unchanged: the store to copy into holds tokens already" in ran.err
    assert run("token", "list", "--json", "--storage", "json:///b").json["tokens"][0]["label"] == "x"
    assert run("check", "--storage", "json:///b", "--json").json["counts"] == {}


@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_a_copy_that_was_stopped_is_refused_by_every_command_and_begun_anew(
    kind: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("import", SAMPLE)
    url = url_in(tmp_path / "half", kind)
    with monkeypatch.context() as patched:
        patched.setattr("backends.copy.PROGRESS_INTERVAL", 1)
        patched.setattr("chalk_flask.cli.commands.copy.progress_line", interrupting)
        assert run("copy", "sqlite:///chalk.db", url).code == 1
    for words in (["check"], ["export", "x.zip"], ["import", str(SAMPLE)], ["token", "list"], ["tenant", "list"]):
        ran = run(*words, "--storage", url)
        assert ran.code == 1
        assert "not finished" in ran.err
    result = CliRunner().invoke(main, ["serve", "--storage", url, "--port", "0"])
    assert (result.exit_code, "not finished" in result.stderr) == (1, True)
    again = run("copy", "sqlite:///chalk.db", url)
    assert again.code == 1
    assert f"{url}: this store is a copy that is not finished" in again.err
    assert "--restart" in again.err
    assert run("copy", url, "json:///c").code == 1
    assert run("copy", "sqlite:///chalk.db", url, "--restart").code == 0
    states = [run("check", "--json", "--storage", each).json["state"] for each in (url, "sqlite:///chalk.db")]
    assert states[0] == states[1]


class interrupting:  # noqa: N801 - stands where a function stood
    """A progress line at which somebody presses Ctrl-C when fifty records are there."""

    def __enter__(self) -> Any:
        return self.show

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, _: str, rows: int) -> None:
        if rows == 50:
            raise KeyboardInterrupt
