import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends import Backend, Query, Record, StorageUnavailableError, open_store, store_exists
from backends.testing import COLLECTIONS, BackendConformance


class TestJSON(BackendConformance):
    """Conformance suite on the JSON backend."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"json:///{tmp_path}/chalk"

    @pytest.fixture
    def broken_url(self, tmp_path: Path) -> str:
        (tmp_path / "letter.txt").write_text("Dear Sir or Madam")
        return f"json:///{tmp_path}/letter.txt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "chalk"


@pytest.fixture
def store(folder: Path) -> Iterator[Backend]:
    with open_store(f"json:///{folder}", COLLECTIONS) as store:
        yield store


def put(store: Backend, collection: str, *records: Record, tenant: str = "t") -> None:
    with store.write(tenant) as transaction:
        transaction.put(collection, records)


def live_files(folder: Path) -> dict[str, Path]:
    """Return the live files of tenant `t` by collection."""
    head = json.loads((folder / "t" / "current.json").read_bytes())
    return {name: folder / "t" / file for name, file in head["files"].items()}


def test_collection_file_has_one_record_per_line_in_key_order(store: Backend, folder: Path) -> None:
    put(
        store,
        "people",
        Record("b", b'{"n": 1.50}', {"tags": ("x", "y"), "age": 7}),
        Record("a", b'"\\t"', {"name": "é"}),
    )
    text = live_files(folder)["people"].read_text(encoding="utf-8")
    assert text == (
        "[\n"
        '{"key":"a","values":{"name":"é"},\t"body":"\\t"},\n'
        '{"key":"b","values":{"tags":["x","y"],"age":7.0},\t"body":{"n": 1.50}}\n'
        "]\n"
    )
    assert [record["body"] for record in json.loads(text)] == ["\t", {"n": 1.5}]


def test_current_json_names_the_live_files_and_the_revision(store: Backend, folder: Path) -> None:
    put(store, "people", Record("a", b"1"))
    put(store, "notes", Record("a", b"1"))
    with store.read("t") as at:
        head = json.loads((folder / "t" / "current.json").read_bytes())
        assert head["revision"] == at.revision < head["serial"]
    assert set(head["files"]) == {"people", "notes"}


def test_commit_replaces_the_files_of_changed_collections_only(store: Backend, folder: Path) -> None:
    put(store, "people", Record("a", b"1"))
    put(store, "groups", Record("g", b"1"))
    before = live_files(folder)
    put(store, "people", Record("a", b"2"))
    after = live_files(folder)
    assert after["groups"] == before["groups"]
    assert after["people"] != before["people"]
    assert {path.name for path in (folder / "t").iterdir()} == {"current.json", *(path.name for path in after.values())}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
def test_files_and_folders_are_private_to_their_owner(store: Backend, folder: Path) -> None:
    put(store, "people", Record("a", b"1"))
    modes = {path.relative_to(folder): stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    files = {path: mode for path, mode in modes.items() if (folder / path).is_file()}
    assert len(files) == 5
    assert set(files.values()) == {0o600}
    assert {mode for path, mode in modes.items() if path not in files} == {0o700}


def test_commit_deletes_unused_data_files_and_keeps_other_files(store: Backend, folder: Path) -> None:
    put(store, "people", Record("a", b"1"))
    unused, partial, other = (folder / "t" / name for name in ("people.17.json", "current.json.next", "README.txt"))
    for path in unused, partial, other:
        path.write_text("half a file")
    with open_store(f"json:///{folder}", COLLECTIONS) as again, again.read("t") as at:
        assert list(at.keys("people")) == ["a"]
    put(store, "people", Record("b", b"1"))
    assert [path.exists() for path in (unused, partial, other)] == [False, False, True]


def test_unchanged_file_is_not_read_again(store: Backend, folder: Path) -> None:
    put(store, "people", Record("a", b"1"))
    with open_store(f"json:///{folder}", COLLECTIONS) as reader:
        with reader.read("t") as at:
            assert list(at.keys("people")) == ["a"]
        put(store, "groups", Record("g", b"1"))
        live_files(folder)["people"].unlink()
        with reader.read("t") as at:
            assert (list(at.keys("people")), list(at.keys("groups"))) == (["a"], ["g"])


def test_recreated_store_does_not_reuse_revisions(folder: Path) -> None:
    revisions = set()
    for _ in range(3):
        with open_store(f"json:///{folder}", COLLECTIONS) as store:
            put(store, "people", Record("a", b"1"))
            with store.read("t") as at:
                revisions.add(at.revision)
        shutil.rmtree(folder)
    assert len(revisions) == 3


def test_relative_url_starts_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store("json:///data/my%20chalk", COLLECTIONS) as store:
        monkeypatch.chdir("/")
        put(store, "people", Record("a", b"1"))
    assert (tmp_path / "data" / "my chalk" / "t" / "current.json").is_file()
    monkeypatch.chdir(tmp_path)
    assert store_exists("json:///data/my%20chalk")


def test_store_exists_creates_no_folder(folder: Path) -> None:
    assert not store_exists(f"json:///{folder}")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("current.json", "not JSON", "current.json: not JSON"),
        ("current.json", "[]", "current.json: not a valid list of live files"),
        (
            "current.json",
            '{"revision":1,"serial":1,"files":{"people":"../../x.1.json"}}',
            "not a valid list of live files",
        ),
        ("current.json", '{"revision":1,"serial":1,"files":{"people":"people.1.json"}}', "people.1.json: "),
        ("people", "", "not a JSON array"),
        ("people", "[\nnonsense\n]\n", "line 2: not a record"),
        ("people", '[\n{"key":"a" "values",\t"body":1}\n]\n', "line 2: not JSON"),
        ("people", '[\n{"key":"a","values":{},"body":1}\n]\n', "line 2: not a record"),
        ("people", '[\n{"key":1,"values":{},\t"body":1}\n]\n', "line 2: not a record"),
        ("people", '[\n{"key":"a","values":{},\t"body":1}', "truncated"),
    ],
)
def test_damaged_file_is_named_by_read_and_check(
    store: Backend, folder: Path, file: str, text: str, message: str
) -> None:
    put(store, "people", Record("a", b"1"))
    (live_files(folder).get(file) or folder / "t" / file).write_text(text)
    with open_store(f"json:///{folder}", COLLECTIONS) as again:
        with pytest.raises(StorageUnavailableError, match=re.escape(message)):
            again.read("t")
        (problem,) = again.check()
        assert message.removesuffix(": ") in problem


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"key":"b","values":{},\t"body":1}', '{"key":"a","values":{},\t"body":1}'], "key 'a' is out of order"),
        (
            ['{"key":"a","values":{},\t"body":1}', '{"key":"a","values":{},\t"body":2}'],
            "duplicate key 'a'",
        ),
        (['{"key":"a","values":{},\t"body":{]}'], "the body of 'a' is not JSON"),
    ],
)
def test_check_finds_damage_that_read_ignores(store: Backend, folder: Path, lines: list[str], message: str) -> None:
    put(store, "people", Record("a", b"1"))
    live_files(folder)["people"].write_text("[\n" + ",\n".join(lines) + "\n]\n")
    (problem,) = store.check()
    assert message in problem


def test_disk_error_keeps_the_old_state(store: Backend, folder: Path) -> None:
    put(store, "people", Record("a", b"1"))
    (folder / "t" / "current.json.next").mkdir()
    with pytest.raises(StorageUnavailableError, match=re.escape("current.json.next")) as caught:
        put(store, "people", Record("b", b"1"))
    assert isinstance(caught.value.__cause__, OSError)
    assert len(list((folder / "t").glob("people.*"))) == 1
    (folder / "t" / "current.json.next").rmdir()
    with store.read("t") as at:
        assert list(at.keys("people")) == ["a"]
    put(store, "people", Record("c", b"1"))


# Each commit replaces all records by those of the next version, in two collections at once.
WRITER = """
import sys
from itertools import count
from backends import Record, open_store
from backends.testing import COLLECTIONS
with open_store(sys.argv[1], COLLECTIONS) as store:
    for version in count(int(sys.argv[2])):
        body = str(version).encode()
        with store.write("t") as transaction:
            for collection in "people", "groups":
                transaction.put(collection, (Record(f"{number:03}", body) for number in range(300)))
        print(version, flush=True)
"""


@pytest.mark.slow
def test_killed_writer_leaves_the_old_or_the_new_state(store: Backend, folder: Path) -> None:
    rng = random.Random(7)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    last = 0
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, f"json:///{folder}", str(last + 1)], stdout=subprocess.PIPE, env=environment
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(rng.random() * 0.05)
            writer.kill()
            printed = [last + 1, *map(int, writer.stdout.read().split())][-1]
        with store.read("t") as at:
            bodies = {body for name in ("people", "groups") for body in at.get_many(name, list(at.keys(name))).values()}
            (version,) = bodies
            assert at.find(Query("groups")).total == 300
        assert int(version) in (printed, printed + 1)
        assert store.check() == []
        last = int(version)
    put(store, "notes", Record("n", b"1"))
    assert len(list((folder / "t").iterdir())) == 4


def test_folder_that_vanishes_before_a_commit_is_not_created_again(store: Backend, folder: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="No such file or directory"), store.write("t") as transaction:
        transaction.put("people", [Record("a", b"1")])
        folder.rename(folder.with_name("moved"))
    assert not folder.exists()


def test_folder_that_vanishes_while_a_writer_waits_is_not_created_again(store: Backend, folder: Path) -> None:
    def write() -> None:
        with store.write("t"):
            pass

    with open_store(f"json:///{folder}", COLLECTIONS) as other, ThreadPoolExecutor(1) as executor:
        with other.write("t"):
            waiting = executor.submit(write)
            time.sleep(0.1)  # It usually waits for the lock then. If it does not, the expectation is the same.
            folder.rename(folder.with_name("moved"))
        with pytest.raises(StorageUnavailableError, match=r"cannot use the lock file .*No such file"):
            waiting.result()
    assert not folder.exists()
