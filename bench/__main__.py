"""Measure Chalk Flask against baseline programs and print the ratios.

The benchmark generates a district, imports it into SQLite in a temporary folder with the command line, and serves it.
It measures each step side by side with a baseline that does the least work possible. A run takes a few
minutes and needs an otherwise idle machine. docs/explanation/performance.md explains the figures. Linux only: memory
sizes are read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from bench.access import measure_bearer, measure_grade_writes, measure_restricted_page, measure_token_requests
from bench.availability import DEFAULT_HOLD_SECONDS, measure_availability
from bench.comparison import SERVER_NAMES, measure_comparison
from bench.console import measure_console
from bench.district import MIN_USERS, write_package
from bench.figures import Figure, describe_machine, format_row, format_table, missed_targets
from bench.imports import measure_imports, measure_imports_beside_writes
from bench.load_generator import choose_load_tool
from bench.reads import (
    LoadSettings,
    measure_growth,
    measure_observability,
    measure_processes,
    measure_reads,
    measure_stream,
    measure_walk,
    save_bodies,
)
from bench.servers import CHALK, BenchmarkError, baseline_server, chalk_server, run_command
from bench.soak import measure_soak
from bench.webhooks import measure_webhooks

READ_PARTS: Final = frozenset({"reads", "stream", "walk", "access"})
PARTS: Final = (
    "import",
    "reads",
    "stream",
    "walk",
    "access",
    "observability",
    "processes",
    "webhooks",
    "availability",
    "console",
)
MAX_PACKAGE_MB: Final = 16_384
"""Maximum size of an unpacked package of a benchmark. A million users take about 1,500 MB."""

FORMER_PART_NAMES: Final = {"ways-in": "access"}


def main(args: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 1 if --check finds a figure that misses its target."""
    parser = _parser()
    options = parser.parse_args(args)
    if options.plot:
        _check_plot(parser, options)
    figures: list[Figure] = []
    try:
        tool = choose_load_tool(options.load)
        load = LoadSettings(tool, options.rounds, options.connections, options.seconds)
        print(describe_machine(options.users, tool), end="\n\n")
        with tempfile.TemporaryDirectory(prefix="chalk-bench-") as folder:
            print(format_table(()))
            for figure in _measure(options, load, Path(folder)):
                figures.append(figure)
                print(format_row(figure), flush=True)
    except BenchmarkError as error:
        sys.exit(f"bench: {error}")
    if options.json:
        options.json.write_text(json.dumps({figure.name: figure.value for figure in figures}, indent=1) + "\n")
    return _check_targets(figures) if options.check else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=_users, default=100_000, help="users in the district [default: 100000]")
    parser.add_argument("--rounds", type=_positive, default=5, help="measurements per pair [default: 5]")
    parser.add_argument("--imports", type=_positive, default=3, help="measurements of the import [default: 3]")
    parser.add_argument(
        "--seconds", type=float, default=2, help="duration of a rate measurement; wrk uses whole seconds [default: 2]"
    )
    parser.add_argument(
        "--requests", type=_positive, default=20, help="requests of each page of the console [default: 20]"
    )
    parser.add_argument("--connections", type=_positive, default=16, help="concurrent connections [default: 16]")
    parser.add_argument(
        "--only",
        type=_part,
        action="append",
        metavar="{" + ",".join(PARTS) + "}",
        help="measure only this part; may be repeated",
    )
    parser.add_argument(
        "--hold",
        type=float,
        default=DEFAULT_HOLD_SECONDS,
        help="seconds for which each kind of slow client stays [default: 40]",
    )
    parser.add_argument(
        "--load", choices=("auto", "wrk", "python"), default="auto", help="load generator [default: wrk if installed]"
    )
    parser.add_argument(
        "--growth",
        type=_users,
        nargs="+",
        metavar="USERS",
        help="compare reads of districts of these sizes, as in --growth 10000 300000",
    )
    parser.add_argument(
        "--rivals",
        nargs="*",
        choices=SERVER_NAMES,
        help="compare with other programs, which are installed into a cache folder first [default: all]",
    )
    parser.add_argument(
        "--soak",
        type=float,
        metavar="MINUTES",
        help="run mixed load for this time, and measure memory and response times",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="write the plot of --soak, --rivals or --growth to this file, which ends in .png or .svg",
    )
    parser.add_argument(
        "--processes",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="NUMBER",
        help="processes of --soak [default: one per core]",
    )
    parser.add_argument(
        "--store",
        type=Path,
        metavar="FILE",
        help="keep the store of the district in this file, and use it if it exists; not for the part import",
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure misses its target")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    return parser


def _check_plot(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with 2 unless the plot is that of one measurement, and its file name has a known ending."""
    if (options.soak is not None) + (options.rivals is not None) + (options.growth is not None) != 1:
        parser.error("--plot requires one of --soak, --rivals and --growth")
    if options.plot.suffix not in (".png", ".svg"):
        parser.error(f"the file {options.plot} of --plot must end in .png or .svg")


def _part(text: str) -> str:
    part = FORMER_PART_NAMES.get(text, text)
    if part not in PARTS:
        raise argparse.ArgumentTypeError(f"unknown part {text!r} (choose from {', '.join(PARTS)})")
    return part


def _users(text: str) -> int:
    if int(text) < MIN_USERS:
        raise argparse.ArgumentTypeError(f"{text} users are too few; the minimum is {MIN_USERS}")
    return int(text)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return int(text)


def _measure(options: argparse.Namespace, load: LoadSettings, folder: Path) -> Iterator[Figure]:
    parts = options.only or ([] if options.growth or options.soak or options.rivals is not None else PARTS)
    if parts:
        yield from _measure_parts(options, load, folder, parts)
    if options.growth:
        with ExitStack() as stack:
            stores = {users: _import_district(users, folder) for users in options.growth}
            servers = {users: stack.enter_context(chalk_server(store)) for users, store in stores.items()}
            yield from measure_growth(servers, load, options.plot)
    if options.rivals is not None:
        names = options.rivals or SERVER_NAMES
        importer = partial(_import_own_size, options, folder)
        yield from measure_comparison(names, options.users, importer, folder, load, options.plot)
    if options.soak:
        storage = _import_district(options.users, folder, options.store)
        serve_options = ("--processes", str(options.processes))
        yield from measure_soak(storage, options.users, folder, options.soak, serve_options, options.plot)


def _import_own_size(options: argparse.Namespace, folder: Path, users: int) -> str:
    """Return the URL of a store with a district. --store names that of --users alone."""
    return _import_district(users, folder, options.store if users == options.users else None)


def _measure_parts(
    options: argparse.Namespace, load: LoadSettings, folder: Path, parts: Sequence[str]
) -> Iterator[Figure]:
    if "import" in parts:
        storage, figures = measure_imports(options.users, folder, options.imports)
        yield from figures
        yield from measure_imports_beside_writes(storage, options.users, folder)
    else:
        storage = _import_district(options.users, folder, options.store)
    if READ_PARTS & set(parts):
        yield from _measure_reads(options, load, folder, storage, parts)
    if "observability" in parts:
        yield from measure_observability(storage, load)
    if "processes" in parts:
        yield from measure_processes(storage, load)
    if "webhooks" in parts:
        yield from measure_webhooks(storage, options.users // 10, load)
    if "availability" in parts:
        yield from measure_availability(storage, options.hold)
    if "console" in parts:
        yield from measure_console(storage, options.users, folder, load, options.requests)


def _measure_reads(
    options: argparse.Namespace, load: LoadSettings, folder: Path, storage: str, parts: Sequence[str]
) -> Iterator[Figure]:
    with chalk_server(storage) as server:
        paths = save_bodies(server, folder / "bodies")
        with baseline_server(folder / "bodies") as baseline:
            if "reads" in parts:
                yield from measure_reads(server, baseline, paths, load)
            if "stream" in parts:
                yield from measure_stream(server, baseline, options.rounds)
        if "walk" in parts:
            yield from measure_walk(server)
        if "access" in parts:
            yield from measure_bearer(storage, server)
            yield from measure_restricted_page(storage, server, folder, load)
            yield from measure_token_requests(storage, server)
            yield from measure_grade_writes(server)


def _import_district(users: int, folder: Path, store: Path | None = None) -> str:
    """Return the URL of a store with the district. Import it, unless the file of the store exists."""
    package, file = folder / f"{users}.zip", (store or folder / f"{users}.db").absolute()
    storage = f"sqlite:///{file}"
    if file.exists():
        return storage
    write_package(users, package)
    run_command(*CHALK, "import", package, "--import-max-mb", str(MAX_PACKAGE_MB), "--storage", storage)
    return storage


def _check_targets(figures: Sequence[Figure]) -> int:
    missed = missed_targets(figures)
    print("\n" + ("\n".join(missed) or "All figures meet their targets."))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
