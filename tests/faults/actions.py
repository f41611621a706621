"""Actions that faults interrupt: imports, approvals, credentials, a grade with a webhook, a new key, and a backup."""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from backends import Snapshot, StorageError, open_store
from chalk_flask import create_app
from chalk_flask.auth.secrets import SecretCipher, SecretUnavailableError, rotate_secrets
from chalk_flask.auth.secrets.rotation import SECRETS
from chalk_flask.cli import main
from chalk_flask.roster.changes.history_block import COLLECTION as HISTORY
from chalk_flask.roster.changes.history_block import HistoryBlock
from chalk_flask.roster.integrity.checker import check_store
from chalk_flask.settings import SettingsError
from chalk_flask.storage import COLLECTIONS
from tests.support.packages import large_package, package_with_users, small_first_loads

__all__ = ["ACTIONS", "FIRST_LOADS", "Place", "create_empty_place", "create_place", "read_state", "run_command"]

ENCRYPTED: Final = "gAAAA"
"""Begin of each encrypted text."""
SCOPES: Final = ("gradebook.readonly", "gradebook.createput")


@dataclass(frozen=True)
class Place:
    """Folder with a store, its folder `data` and its backups, and files beside it that no fault concerns."""

    folder: Path
    backend: str

    @property
    def store(self) -> Path:
        """Folder below which faults happen."""
        return self.folder / "store"

    @property
    def url(self) -> str:
        """URL of the store."""
        return {"json": f"json:///{self.store}/chalk", "sqlite": f"sqlite:///{self.store}/chalk.db"}[self.backend]

    @property
    def archive(self) -> Path:
        """Archive of the action `backup`."""
        return self.store / "backup.tar.gz"

    def use(self) -> None:
        """Let all further commands of this process use the store."""
        os.environ |= {"CHALK_STORAGE": self.url, "CHALK_DATA": str(self.store / "data")}

    def note(self, name: str) -> str:
        """Return the content of a file beside the store."""
        return (self.folder / name).read_text(encoding="utf-8")


def run_command(*args: str) -> tuple[int, str]:
    """Run a command in this process, and return its exit code and its standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(list(args), prog_name="chalk-flask")
        except SystemExit as end:
            return int(end.code or 0), out.getvalue()
    raise AssertionError("a command ends with an exit code")


def create_place(place: Place) -> None:
    """Create a store with a roster, a token, a webhook and a held package, and a package with some changes."""
    place.use()
    place.store.mkdir()
    for name, count in (("first", 100), ("held", 60), ("next", 103)):
        package_with_users(count).zip(place.folder / f"{name}.zip")
    _expect(0, "import", f"{place.folder}/first.zip")
    scopes = [word for scope in SCOPES for word in ("--scope", scope)]
    token = _expect(0, "token", "create", "--label", "tool", *scopes)
    (place.folder / "token").write_text(token.splitlines()[0])
    _expect(0, "webhook", "create", "--url", "https://hooks.example.org/")
    _expect(0, "client", "create", "--label", "signer", "--oauth1")
    report = orjson.loads(_expect(3, "import", f"{place.folder}/held.zip", "--json"))
    (place.folder / "run").write_text(report["run"])


def create_empty_place(place: Place) -> None:
    """Create a store without a roster, and the package of a first load that writes rows while it reads them."""
    place.use()
    place.store.mkdir()
    large_package().zip(place.folder / "large.zip")
    open_store(place.url, COLLECTIONS).close()
    _expect(0, "token", "create", "--label", "tool")


def _expect(code: int, *args: str) -> str:
    found, out = run_command(*args)
    assert found == code, (args, found)
    return out


def read_state(place: Place) -> dict[str, object]:
    """Return what an action can change: records by tenant and collection, states of runs, and the roster's digest."""
    state: dict[str, object] = {}
    cipher = SecretCipher(place.store / "data")
    with open_store(place.url, COLLECTIONS) as store:
        for tenant in store.tenants():
            with store.read(tenant) as snapshot:
                for collection in COLLECTIONS:
                    state[f"{tenant}/{collection.name}"] = _count(snapshot, collection.name)
                    _check_secrets(snapshot, collection.name, cipher)
                runs = (orjson.loads(record.body)["state"] for record in snapshot.scan("imports"))
                state[f"{tenant}/runs"] = sorted(Counter(runs).items())
        report = check_store(store, "default")
        assert report.ok, report.problems
        state["digest"] = report.digest
    return state


def _count(snapshot: Snapshot, collection: str) -> int:
    """Return the number of records, without history blocks that depend on the duration of a transaction."""
    if collection != HISTORY:
        return sum(1 for _ in snapshot.keys(collection))
    blocks = (HistoryBlock.from_body(record.body) for record in snapshot.scan(collection))
    return sum(block.kind != "restamped" for block in blocks)


def _check_secrets(snapshot: Snapshot, collection: str, cipher: SecretCipher) -> None:
    """Decrypt the secrets of the records. Raises SecretUnavailableError."""
    if collection in SECRETS:
        for record in snapshot.scan(collection):
            for text in record.body.decode().split('"'):
                if text.startswith(ENCRYPTED):
                    cipher.decrypt(text)


def _import(place: Place) -> bool:
    return run_command("import", f"{place.folder}/next.zip")[0] == 0


def _load_first(place: Place) -> bool:
    with small_first_loads():
        return run_command("import", f"{place.folder}/large.zip")[0] == 0


def _create_token(place: Place) -> bool:
    return run_command("token", "create", "--label", "new")[0] == 0


def _create_client(place: Place) -> bool:
    """Create a client whose secret is encrypted."""
    return run_command("client", "create", "--label", "new", "--oauth1")[0] == 0


def _approve(place: Place) -> bool:
    return run_command("imports", "approve", place.note("run"))[0] == 0


def _write_grade(place: Place) -> bool:
    """Write a record as a grade tool does. The same transaction queues a delivery for the webhook."""
    try:
        app = create_app()
    except (StorageError, SettingsError, OSError):
        return False
    response = app.test_client().put(
        "/ims/oneroster/v1p1/categories/new",
        json={"category": {"title": "Quiz"}},
        headers={"Authorization": f"Bearer {place.note('token')}"},
    )
    with contextlib.suppress(StorageError):
        app.extensions["chalk"].store.close()
    return response.status_code < 300


def _rotate_secrets(place: Place) -> bool:
    """Replace the key of encrypted secrets, without the pause before the former key is removed."""
    try:
        with open_store(place.url, COLLECTIONS) as store:
            rotate_secrets(store, place.store / "data", grace_seconds=0)
    except (SecretUnavailableError, StorageError, OSError):
        return False
    return True


def _back_up(place: Place) -> bool:
    return run_command("backup", str(place.archive))[0] == 0


ACTIONS: Final[dict[str, Callable[[Place], bool]]] = {
    "import": _import,
    "token": _create_token,
    "client": _create_client,
    "approval": _approve,
    "webhook": _write_grade,
    "rotation": _rotate_secrets,
    "backup": _back_up,
}
"""Function for each action. It returns True if the action was acknowledged."""

FIRST_LOADS: Final[dict[str, Callable[[Place], bool]]] = {"first load": _load_first}
"""Actions in a store without a roster."""
