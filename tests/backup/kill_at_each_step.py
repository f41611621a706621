"""Program that restores a backup again and again, and is killed at each step in turn: python -m MODULE FOLDER BACKEND.

A step is a rename or deletion of a file or folder, or the creation of a folder. After each kill, the store and the
folder `data` must both be the former ones or both the new ones. Prints the number of kills that left the former and the
new ones.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

from tests.backup.conftest import Place

STEPS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")


def kill_at(count: int, place: Place, archive: bytes) -> bool:
    """Restore in a process that is killed at this step; return True if it ended before."""
    if (child := os.fork()) == 0:
        steps = itertools.count()

        def on_event(event: str, args: tuple[object, ...]) -> None:
            if event in STEPS and str(place.folder) in str(args[0]) and next(steps) == count:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(on_event)
        place.restore(archive, replace=True)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def state_after(place: Place) -> str:
    """Return the contents of store and folder, read by another process, as a new command would."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, ",".join(place.contents()).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as output:
        return output.read()


def main(folder: Path, backend: str) -> None:
    """Kill at each step until the restore ends."""
    new = Place(folder / "source", backend)
    new.folder.mkdir()
    new.fill("new")
    archive, states = new.back_up(), Counter[str]()
    for count in itertools.count():
        place = Place(folder / str(count), backend)
        place.folder.mkdir()
        place.fill("old")
        has_ended = kill_at(count, place, archive)
        if has_ended:
            break
        states[state_after(place)] += 1
        if count % 4 == 0:
            assert kill_at(10**9, place, archive), "a later restore works"
            assert state_after(place) == "new,new"
            assert not list(place.folder.glob(".*restoring*")), "it deletes what the killed one left"
        shutil.rmtree(place.folder)
    sys.stdout.write(f"{dict(states)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
