"""Measurement of the console on the store of a district, to which it adds what the pages show."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench.access import create_line_item
from bench.console.browser import Browser
from bench.console.costs import measure_api_cost, measure_import, measure_upload
from bench.console.pages import measure_pages
from bench.console.preparation import ALLOWED, Accounts, fill_store, find_records, run_imports
from bench.console.sign_in import measure_sign_in
from bench.figures import Figure
from bench.reads import LoadSettings
from bench.servers import CHALK, BenchmarkError, Server, chalk_server, run_command

__all__ = ["measure_console"]

RESULTS = 30


def measure_console(storage: str, users: int, folder: Path, load: LoadSettings, requests: int) -> Iterator[Figure]:
    """Yield time and size of every page, the time of sign-in, and what the console costs the API."""
    accounts, ids = fill_store(storage, users)
    with chalk_server(storage, *ALLOWED) as server, closing(Browser(server)) as browser:
        browser.sign_in(accounts.operator, accounts.password)
        ids |= _prepare(server, browser, users, folder, storage)
        with closing(_half_signed_in(server, accounts)) as half:
            yield from measure_pages(server, browser, half, ids, requests)
        yield from measure_sign_in(server, accounts, requests)
        yield from measure_upload(server, browser, users, folder)
        yield from measure_import(server, browser, users, folder, load)
    yield from measure_api_cost(storage, load)


def _prepare(server: Server, browser: Browser, users: int, folder: Path, storage: str) -> dict[str, str]:
    """Run imports, write grades, and return the ids of what the pages show by placeholder."""
    ids = run_imports(browser, users, folder)
    put_result, _ = create_line_item(server)
    with closing(server.connect()) as connection:
        for number in range(RESULTS):
            if put_result(connection, number) != http.client.CREATED:
                raise BenchmarkError("a result was not stored")
    ids |= find_records(server)
    ids |= {f"{name}_deep": str(_total(server, name) * 9 // 10) for name in ("users", "students", "enrollments")}
    restriction = ("--restrict-org", ids["schools"])
    token = run_command(*CHALK, "token", "create", "--label", "limited", *restriction, "--json", "--storage", storage)
    return ids | {"limited_token": token.json["id"], "warning": _warning_code(browser)}


def _total(server: Server, collection: str) -> int:
    return int(server.get(f"/{collection}?limit=1")[0].headers["X-Total-Count"])


def _warning_code(browser: Browser) -> str:
    found = re.search(rb'href="/quality/warnings/([^"?]+)"', browser.get("/quality").body)
    if found is None:
        raise BenchmarkError("the last import has no warnings")
    return found[1].decode()


def _half_signed_in(server: Server, accounts: Accounts) -> Browser:
    """Return a browser whose administrator has not entered the one-time code yet."""
    browser = Browser(server)
    browser.sign_in(accounts.with_code, accounts.password)
    return browser
