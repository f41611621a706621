"""Store that is closed while other threads read: they get an error, and the process goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROGRAM = """
import sys, threading
from backends import Collection, Compare, Field, Record, StorageError, open_store

url, people = sys.argv[1], Collection("people", (Field("name"),))
store = open_store(url, [people])
with store.write("default") as transaction:
    transaction.put("people", [Record(f"p-{n}", b'{"a":"%d"}' % n, {"name": str(n % 1000)}) for n in range(20_000)])
store.close()
keys = [f"p-{n}" for n in range(0, 20_000, 7)]

for round in range(200):
    store, reading, errors = open_store(url, [people]), threading.Barrier(3), []

    def read():
        reading.wait()
        try:
            while True:
                with store.read("default") as snapshot:
                    snapshot.get_many("people", keys)
                    snapshot.exists("people", Compare("name", "=", "none"))
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    reading.wait()
    threading.Event().wait(0.001 * (round % 7))
    store.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(errors) == 2, errors
print("done")
"""


@pytest.mark.slow
def test_store_can_be_closed_while_threads_read(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, f"sqlite:///{tmp_path}/people.db"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
