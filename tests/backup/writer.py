"""Program that writes to a store until it is killed: python -m tests.backup.writer STORAGE DATA.

Each commit gives all records of a collection the same number. Every third commit also holds a package with that number,
and the next one discards it: the file is complete before the commit, and deleted after the other commit. Prints the
number of each commit when it has ended.
"""

from __future__ import annotations

import itertools
import sys
import time

from backends import Record, open_store
from chalk_flask.roster.imports.run_files import held_package_path, store_folder, write_file
from chalk_flask.settings import load_settings
from chalk_flask.storage import COLLECTIONS

RECORDS = 20

PAUSE_SECONDS = 0.03
"""Pause between two commits, so that the other process gets the lock soon."""


def main(storage: str, data: str) -> None:
    """Write until the process is killed."""
    folder = store_folder(load_settings({"storage": storage, "data": data}))
    with open_store(storage, COLLECTIONS) as store:
        held = ""
        for number in itertools.count(1):
            discarded, held = held, f"run-{number}" if number % 3 == 0 else ""
            with store.write("default") as transaction:
                if held:
                    write_file(held_package_path(folder, "default", held), b"%d" % number * 1000)
                body = b'{"number":%d,"held":"%s"}' % (number, held.encode())
                transaction.put("clock", [Record(f"record-{key}", body) for key in range(RECORDS)])
            if discarded:
                held_package_path(folder, "default", discarded).unlink()
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
