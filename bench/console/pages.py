"""Pages of the console: server time and transferred bytes of each GET row of its route table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Final

from bench.console.browser import Browser
from bench.figures import Figure
from bench.servers import Server, cpu_seconds

__all__ = ["PAGES", "UNMEASURED", "PageRow", "measure_pages"]

OK: Final = 200


@dataclass(frozen=True)
class PageRow:
    """Page to measure: the endpoint of its route, and its path with placeholders.

    `search` are the fields of its search form. `is_first_step` is True if the page follows a correct password.
    """

    endpoint: str
    path: str
    search: tuple[tuple[str, str], ...] = ()
    is_first_step: bool = False

    @property
    def name(self) -> str:
        """Name of the page in the table."""
        return " ".join([self.path, *(f"{name}={value}" for name, value in self.search)])


def _lists(*names: str) -> tuple[PageRow, ...]:
    return tuple(PageRow("browse_collection", f"/roster/{name}") for name in names)


def _nested(path: str, *names: str) -> tuple[PageRow, ...]:
    return tuple(PageRow("browse_nested", f"/roster/{path}/{name}") for name in names)


def _search(path: str, **fields: str) -> PageRow:
    return PageRow("browse_collection", path, tuple(fields.items()))


PAGES: Final = (
    PageRow("serve_static", "/static/console/console.css"),
    PageRow("show_code_form", "/login/code", is_first_step=True),
    PageRow("show_dashboard", "/"),
    PageRow("list_imports", "/imports"),
    PageRow("show_upload", "/imports/upload"),
    PageRow("show_import", "/imports/{applied}"),
    PageRow("show_import", "/imports/{rejected}"),
    PageRow("show_import", "/imports/{held}"),
    PageRow("show_import", "/imports/{checked}"),
    PageRow("download_problems", "/imports/{rejected}/problems.csv"),
    PageRow("show_progress", "/imports/{job}/progress"),
    PageRow("show_changes", "/imports/{held}/changes"),
    PageRow("show_changes", "/imports/{held}/changes?file=enrollments&offset=1000"),
    PageRow("show_changes", "/imports/{held}/changes?file=classes&outcome=deleted"),
    PageRow("list_sources", "/sources"),
    PageRow("show_new_source", "/sources/new"),
    PageRow("show_source", "/sources/{source}/overview"),
    PageRow("edit_source", "/sources/{source}/edit"),
    PageRow("show_account", "/account"),
    PageRow("show_two_factor", "/account/two-factor"),
    PageRow("list_tokens", "/settings/api-tokens"),
    PageRow("show_new_token", "/settings/api-tokens/new"),
    PageRow("show_token", "/settings/api-tokens/{token}"),
    PageRow("show_token_access", "/settings/api-tokens/{token}/access"),
    PageRow("show_token_access", "/settings/api-tokens/{token}/access?collection=enrollments"),
    PageRow("show_token_access", "/settings/api-tokens/{limited_token}/access?collection=enrollments"),
    PageRow("list_clients", "/settings/clients"),
    PageRow("show_new_client", "/settings/clients/new"),
    PageRow("show_client", "/settings/clients/{client}"),
    PageRow("list_issuers", "/settings/issuers"),
    PageRow("show_new_issuer", "/settings/issuers/new"),
    PageRow("show_issuer", "/settings/issuers/{issuer}"),
    PageRow("browse_roster", "/roster"),
    PageRow("browse_demographics", "/roster/demographics"),
    *_lists(
        *("academicSessions", "categories", "classes", "courses", "enrollments", "gradingPeriods", "lineItems"),
        *("orgs", "resources", "results", "schools", "students", "teachers", "terms", "users"),
    ),
    *_lists(
        *("users?offset={users_deep}", "enrollments?offset={enrollments_deep}", "students?offset={students_deep}"),
        *("users?sort=familyName", "users?sort=familyName&orderBy=desc&offset={users_deep}", "users?sort=email"),
        *("users?sort=dateLastModified&orderBy=desc", "students?sort=givenName", "classes?sort=title"),
        "enrollments?sort=sourcedId&orderBy=desc",
    ),
    _search("/roster/users", q="Gül"),
    _search("/roster/users", q="Zuri Park"),
    _search("/roster/users", q="no such person"),
    _search("/roster/users", q="meridian"),
    _search("/roster/students", q="Jensen"),
    _search("/roster/classes", q="Orchestra"),
    _search("/roster/users", filter="role='student' AND grades='05'"),
    _search("/roster/users", filter="status='tobedeleted'"),
    _search("/roster/enrollments", filter="class.sourcedId='{class}'"),
    *(
        PageRow("show_record", f"/roster/{path}")
        for path in (
            *("users/{users}", "users/{student}", "classes/{class}", "schools/{schools}", "orgs/{district}"),
            *("courses/{courses}", "academicSessions/{academicSessions}", "terms/{terms}"),
            *("enrollments/{enrollments}", "lineItems/{lineItems}", "results/{results}"),
        )
    ),
    *_nested("schools/{schools}", "classes", "courses", "enrollments", "students", "teachers", "terms"),
    *_nested("classes/{class}", "lineItems", "resources", "results", "students", "teachers"),
    *_nested("users/{student}", "classes"),
    *_nested("students/{student}", "classes"),
    *_nested("terms/{terms}", "classes", "gradingPeriods"),
    *_nested("courses/{courses}", "classes", "resources"),
    PageRow("show_quality", "/quality"),
    PageRow("show_quality_state", "/quality/state"),
    *(
        PageRow("show_quality_records", f"/quality/records/{check}")
        for check in (
            *("users-without-email", "shared-emails", "users-without-enrollment", "users-without-org"),
            *("classes-without-teacher", "classes-without-students"),
            *("enrollments-of-deleted-users", "enrollments-in-deleted-classes"),
        )
    ),
    PageRow("show_warnings", "/quality/warnings/{warning}"),
    PageRow("list_operations", "/explorer"),
    PageRow("show_operation", "/explorer/getAllUsers"),
    PageRow("show_operation", "/explorer/putLineItem"),
    PageRow("list_webhooks", "/webhooks"),
    PageRow("show_new_webhook", "/webhooks/new"),
    PageRow("show_webhook", "/webhooks/{webhook}"),
    PageRow("show_webhook", "/webhooks/{webhook}?state=failed"),
    PageRow("show_delivery", "/webhooks/{webhook}/deliveries/{event}"),
    PageRow("download_body", "/webhooks/{webhook}/deliveries/{event}/body"),
    PageRow("show_audit_log", "/audit"),
    PageRow("show_audit_log", "/audit", (("event", "token.created"), ("id", "0000000000000001"))),
    PageRow("show_settings", "/settings"),
    PageRow("list_administrators", "/settings/administrators"),
    PageRow("show_new_administrator", "/settings/administrators/new"),
    PageRow("show_administrator", "/settings/administrators/{administrator}"),
    PageRow("list_tenants", "/tenants"),
    PageRow("show_new_tenant", "/tenants/new"),
    PageRow("show_tenant", "/tenants/{tenant}"),
    PageRow("show_about", "/about"),
)
"""Pages in the order of the route table, and further ones whose parameters make them expensive."""

UNMEASURED: Final = {
    "show_sign_in": "measured with the sign-in",
    "show_setup": "exists until the first administrator is created",
    "export_audit_log": "a download without limit of time",
    "begin_oidc_sign_in": "only with an identity provider, to which it redirects",
    "complete_oidc_sign_in": "only with an identity provider, whose response it waits for",
    "show_demo": "only in the demo",
    "download_sample_package": "only in the demo",
}
"""Endpoints of GET rows that are not measured as pages, with the reason."""


def measure_pages(
    server: Server, browser: Browser, half: Browser, ids: Mapping[str, str], requests: int
) -> Iterator[Figure]:
    """Yield the median time in ms and the transferred kB of every page, each requested once more than `requests`.

    A page that fails has infinite figures, so that the others are still measured.

    `half` is a browser whose administrator has not entered the one-time code yet.
    """
    for row in PAGES:
        yield from _measure_page(server, half if row.is_first_step else browser, row, ids, requests)


def _measure_page(
    server: Server, browser: Browser, row: PageRow, ids: Mapping[str, str], requests: int
) -> Iterator[Figure]:
    path = row.path.format(**ids)
    if row.search:
        path = browser.redirected(path, path, {name: value.format(**ids) for name, value in row.search})
    first = browser.get(path)
    if first.status != OK:
        yield Figure(f"console.page {row.name}", inf, f"answered with {first.status}")
        yield Figure(f"console.size {row.name}", inf, f"answered with {first.status}")
        return
    before = cpu_seconds(server.pid)
    durations = [browser.get(path).seconds * 1e3 for _ in range(requests)]
    cpu = (cpu_seconds(server.pid) - before) / requests * 1e3
    note = (
        f"ms, median of {requests}; {cpu:.0f} ms of CPU; {max(durations):.0f} at most; {first.seconds * 1e3:.0f} first"
    )
    yield Figure(f"console.page {row.name}", median(durations), note)
    files = browser.files_size(first.body)
    note = f"kB without cache: {len(first.body):,} bytes of the page, {files:,} bytes of its files"
    yield Figure(f"console.size {row.name}", (len(first.body) + files) / 1e3, note)
