"""Measure the service on a roster that is made for it, beside yardsticks, and print ratios.

`python -m bench` makes a district, imports it into SQLite in a temporary folder with the command line, serves it,
and measures it side by side with the least work that could do the job. docs/explanation/performance.md says what the figures mean.
It takes a few minutes, and a machine that does nothing else. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.figures import Figure, machine, row, table, verdicts
from bench.importing import imports
from bench.load import chosen
from bench.measuring import Effort, bodies, growth, reads, stream, walk
from bench.processes import CHALK, Failed, chalk_server, ran, yardstick_server
from bench.roster import FEWEST, write_package
from bench.ways_in import known_bearer, limited_page, token_requests, written_grades
from bench.webhooks import webhooks

PARTS = ("import", "reads", "stream", "walk", "ways-in", "webhooks")


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 when --check finds a figure that does not pass its bar."""
    asked = _parser().parse_args(words)
    figures: list[Figure] = []
    try:
        maker = chosen(asked.load)
        effort = Effort(maker, asked.rounds, asked.connections, asked.seconds)
        print(machine(asked.users, maker), end="\n\n")
        with tempfile.TemporaryDirectory(prefix="chalk-bench-") as folder:
            print(table(()))
            for figure in _measured(asked, effort, Path(folder)):
                figures.append(figure)
                print(row(figure), flush=True)
    except Failed as error:
        sys.exit(f"bench: {error}")
    if asked.json:
        asked.json.write_text(json.dumps({figure.name: figure.value for figure in figures}, indent=1) + "\n")
    return _checked(figures) if asked.check else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=_users, default=100_000, help="how large the district is (100000)")
    parser.add_argument("--rounds", type=_positive, default=5, help="how often each pair is measured (5)")
    parser.add_argument("--imports", type=_positive, default=3, help="how often the package is imported (3)")
    parser.add_argument("--seconds", type=float, default=2, help="how long a rate is measured (2; wrk: whole seconds)")
    parser.add_argument("--connections", type=_positive, default=16, help="how many clients ask at once (16)")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part alone; may be repeated")
    parser.add_argument("--load", choices=("auto", "wrk", "python"), default="auto", help="what makes the load")
    parser.add_argument(
        "--growth",
        type=_users,
        nargs=2,
        metavar=("SMALL", "LARGE"),
        help="compare two more districts, as in --growth 10000 300000",
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a figure does not pass its bar")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser


def _users(text: str) -> int:
    if int(text) < FEWEST:
        raise argparse.ArgumentTypeError(f"{text} users are too few: {FEWEST} at least")
    return int(text)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)


def _measured(asked: argparse.Namespace, effort: Effort, folder: Path) -> Iterator[Figure]:
    parts = asked.only or ([] if asked.growth else PARTS)
    if parts:
        yield from _of_one_district(asked, effort, folder, parts)
    if asked.growth:
        with ExitStack() as stack:
            stores = [_loaded(users, folder) for users in asked.growth]
            small, large = (stack.enter_context(chalk_server(store)) for store in stores)
            yield from growth(small, large, effort)


def _of_one_district(asked: argparse.Namespace, effort: Effort, folder: Path, parts: Sequence[str]) -> Iterator[Figure]:
    if "import" in parts:
        storage, figures = imports(asked.users, folder, asked.imports)
        yield from figures
    else:
        storage = _loaded(asked.users, folder)
    with chalk_server(storage) as server:
        found = bodies(server, folder / "bodies")
        with yardstick_server(folder / "bodies") as yardstick:
            if "reads" in parts:
                yield from reads(server, yardstick, found, effort)
            if "stream" in parts:
                yield from stream(server, yardstick, asked.rounds)
        if "walk" in parts:
            yield from walk(server)
        if "ways-in" in parts:
            yield from known_bearer(storage, server, folder)
            yield from limited_page(storage, server, folder, effort)
            yield from token_requests(storage, server)
            yield from written_grades(server)
    if "webhooks" in parts:
        yield from webhooks(storage, asked.users // 10, effort)


def _loaded(users: int, folder: Path) -> str:
    package, storage = folder / f"{users}.zip", f"sqlite:///{folder}/{users}.db"
    write_package(users, package)
    ran(*CHALK, "import", package, "--storage", storage)
    return storage


def _checked(figures: Sequence[Figure]) -> int:
    below = verdicts(figures)
    print("\n" + ("\n".join(below) or "Every figure passes its bar."))
    return bool(below)


if __name__ == "__main__":
    sys.exit(main())
