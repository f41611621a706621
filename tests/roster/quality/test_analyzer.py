"""Analysis of a roster: once per revision, within the time limit of queries."""

from __future__ import annotations

import pytest
from flask import Flask

from backends import Backend, Compare
from chalk_flask.oneroster.schemas import FILES
from chalk_flask.permissions.scopes import ALL
from chalk_flask.roster.quality import CHECKS, QualityAnalyzer, QualityCheck, analyzer
from tests.conftest import services_of
from tests.support.api_client import IMS, create_token
from tests.support.small_roster import fill, user

WAIT_SECONDS = 20.0


@pytest.mark.every_backend
def test_report_describes_the_current_roster(store: Backend) -> None:
    fill(store)
    quality = QualityAnalyzer(store, query_seconds=10)
    report, is_current = quality.latest("default", WAIT_SECONDS)
    assert report is not None
    assert is_current
    assert report.results["users-without-email"].count == 0
    with store.write("default") as transaction:
        transaction.put("users", [FILES["users"].record(user("u-20", "aide", "A", "B", ["s-1"], email=""))])
    renewed, is_current = quality.latest("default", WAIT_SECONDS)
    assert renewed is not None
    assert is_current
    assert renewed.results["users-without-email"].ids == ("u-20",)


def test_unchanged_roster_is_analyzed_once(store: Backend) -> None:
    quality = QualityAnalyzer(store, query_seconds=10)
    first, _ = quality.latest("default", WAIT_SECONDS)
    with store.write("default") as transaction:
        transaction.put("clock", [])
    assert quality.latest("default", 0) == (first, True)
    assert quality.latest("default", 0)[0] is first


def test_writes_of_grade_tools_leave_the_report_valid(app: Flask) -> None:
    store = services_of(app).store
    fill(store)
    quality = QualityAnalyzer(store, query_seconds=10)
    first, _ = quality.latest("default", WAIT_SECONDS)
    headers = {"Authorization": f"Bearer {create_token(app, ALL)}"}
    assert app.test_client().delete(f"{IMS}/results/x-1", headers=headers).status_code == 204
    assert quality.latest("default", 0) == (first, True)


def test_tenants_have_reports_of_their_own(store: Backend) -> None:
    fill(store)
    quality = QualityAnalyzer(store, query_seconds=10)
    reports = {tenant: quality.latest(tenant, WAIT_SECONDS)[0] for tenant in ("default", "west")}
    counts = {tenant: report and report.results["classes-without-teacher"].count for tenant, report in reports.items()}
    assert counts == {"default": 1, "west": 0}


def test_long_result_is_counted_and_listed_in_part(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyzer, "MAX_LISTED_IDS", 2)
    with store.write("default") as transaction:
        people = [user(f"u-{n}", "aide", "A", "B", ["s-1"], email="") for n in range(5)]
        transaction.put("users", [FILES["users"].record(person) for person in people])
    report, _ = QualityAnalyzer(store, query_seconds=10).latest("default", WAIT_SECONDS)
    assert report is not None
    assert report.results["users-without-email"].count == 5
    assert report.results["users-without-email"].ids == ("u-0", "u-1")


@pytest.mark.on_backend("sqlite")
def test_query_above_its_time_limit_has_no_count(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Compare("givenName", "~", "z")
    slow = QualityCheck("slow", "Slow", "", "users", lambda snapshot: snapshot.keys("users", search))
    monkeypatch.setattr(analyzer, "CHECKS", (slow, *CHECKS))
    with store.write("default") as transaction:
        transaction.put("users", [FILES["users"].record(user("u-1", "aide", "A" * 600, "B", ["s-1"], email=""))])
    report, is_current = QualityAnalyzer(store, query_seconds=1e-9).latest("default", WAIT_SECONDS)
    assert report is not None
    assert is_current
    assert report.results["slow"].count is None
    assert report.results["users-without-email"].count == 1


def test_closed_store_ends_the_analysis_without_a_report(store: Backend) -> None:
    quality = QualityAnalyzer(store, query_seconds=10)
    fill(store)
    event = quality._start("default")
    store.close()
    assert event.wait(WAIT_SECONDS)
