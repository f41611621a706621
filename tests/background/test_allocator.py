"""Memory arenas of glibc, in a process of its own with threads that allocate at the same time."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

PROGRAM = """
import ctypes, threading
{first}
barrier = threading.Barrier(4)
def allocate():
    barrier.wait()
    kept = bytearray(5000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""
LIMIT = "from chalk_flask.background.allocator import limit_arenas; limit_arenas()"

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="needs glibc")


def count_arenas(first: str, **variables: str) -> int:
    """Return the number of arenas that four threads used."""
    environ = {name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    command = [sys.executable, "-c", PROGRAM.format(first=first)]
    output = subprocess.run(command, cwd=ROOT, env=environ | variables, capture_output=True, text=True, check=True)
    return output.stdout.count("<heap nr=")


def test_threads_share_one_arena() -> None:
    assert count_arenas("") > 1, "otherwise the limit would change nothing"
    assert count_arenas(LIMIT) == 1


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_setting_of_the_operator_wins(name: str) -> None:
    value = {"MALLOC_ARENA_MAX": "3", "GLIBC_TUNABLES": "glibc.malloc.arena_max=3"}[name]
    assert 1 < count_arenas(LIMIT, **{name: value}) <= 3


TRIM_PROGRAM = """
import os, time
from pathlib import Path
from chalk_flask.background.allocator import limit_arenas, trimmed_memory

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

limit_arenas()
blocks = [bytearray(5000) for _ in range(12_000)]
full = resident_mb()
last = blocks.pop()  # it keeps glibc from returning the memory by itself
blocks.clear()
freed = resident_mb()
with trimmed_memory(0.01):
    end = time.monotonic() + 60
    while resident_mb() > full - 40 and time.monotonic() < end:
        time.sleep(0.01)
print(full - freed, full - resident_mb())
"""


def test_free_memory_is_returned_to_the_system() -> None:
    output = subprocess.run([sys.executable, "-c", TRIM_PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, output.stdout.split())
    assert before < 30, "otherwise trimming would change nothing"
    assert after >= 40
