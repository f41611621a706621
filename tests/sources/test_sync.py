"""Syncs with one provider: full and delta, and the outcomes of the import."""

from __future__ import annotations

import json

import pytest

from chalk_flask.audit.events import read_events
from chalk_flask.roster.imports import ImportReport
from chalk_flask.sources import SourceChange, SourceError, SyncOptions, sync_source
from chalk_flask.sources.errors import SourceBusyError
from chalk_flask.sources.sync import _working_folder
from chalk_flask.tenants import TenantStore
from tests.sources.conftest import Puller
from tests.support.sources.provider import Provider, Reply, enrollment, record, user

LATER = "2026-09-01T12:00:00.000Z"


def pull(puller: Puller, provider: Provider) -> ImportReport:
    """Add the provider as a source, and pull its roster."""
    puller.add(provider.url)
    report = puller.sync()
    assert report.state == "committed"
    provider.requests.clear()
    return report


@pytest.mark.every_backend
def test_full_sync_imports_all_records(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    for name, records in provider.roster.items():
        assert puller.ids(name) == {each["sourcedId"] for each in records}
    stored = puller.records("users")["u-007"]
    assert (stored["givenName"], stored["enabledUser"], stored["orgs"][0]["sourcedId"]) == ("Grace7", "true", "s-1")
    assert puller.records("academicSessions")["t-1"]["schoolYear"] == "2027"
    assert [(run.state, run.report["package"], run.who) for run in puller.runs()] == [("committed", "sis", "ada")]
    source = puller.source()
    assert (source.last_result, source.last_error, source.last_run) == ("committed", None, puller.runs()[0].id)
    assert source.last_success == source.last_full == "2026-09-01T08:00:00.000Z"


def test_referring_records_are_read_before_their_targets(puller: Puller, provider: Provider) -> None:
    puller.add(provider.url)
    puller.sync()
    assert provider.names() == [
        "token",
        "demographics",
        "enrollments",
        "users",
        "classes",
        "courses",
        "academicSessions",
        "orgs",
    ]


def test_sync_after_a_change_of_the_client_reads_all_records(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    puller.sources.change("default", "sis", SourceChange(page_size=7))
    puller.sync()
    assert any("filter=" in path for path in provider.requests)
    assert all("limit=7&" in path for path in provider.requests if "?" in path)
    provider.requests.clear()
    puller.sources.change("default", "sis", SourceChange(client_id="other"))
    puller.sync()
    assert not any("filter=" in path for path in provider.requests)


def test_change_during_a_sync_is_kept(puller: Puller, provider: Provider) -> None:
    puller.add(provider.url)

    def change_client(path: str, query: dict[str, str]) -> None:
        if path == "orgs":
            puller.sources.change("default", "sis", SourceChange(client_id="other", at="02:30"))

    provider.replies = change_client
    assert puller.sync().state == "committed"
    source = puller.source()
    assert (source.client_id, source.at, source.last_result, source.last_full) == ("other", "02:30", "committed", None)


def test_second_sync_reads_changes_only(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    provider.roster["users"][3] |= {"givenName": "Barbara", "dateLastModified": LATER}
    provider.roster["users"].append(user(99, dateLastModified=LATER))
    for name in ("users", "enrollments"):
        provider.roster[name][5] |= {"status": "tobedeleted", "dateLastModified": LATER}
    puller.clock.advance(hours=5)
    report = puller.sync()
    assert report.state == "committed"
    assert all("filter=dateLastModified%3E%3D%272026-09-01T07%3A00%3A00.000Z%27" in path for path in provider.requests
               if "/ims/" in path)  # fmt: skip
    assert puller.records("users")["u-003"]["givenName"] == "Barbara"
    assert "u-099" in puller.ids("users")
    assert "u-005" not in puller.ids("users")
    assert puller.records("users")["u-005"]["status"] == "tobedeleted"
    assert len(puller.ids("users")) == 30


def test_delta_deletes_nothing_that_is_only_missing(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    del provider.roster["users"][0], provider.roster["enrollments"][0]
    assert puller.sync().to_dict()["total"]["deleted"] == 0
    assert puller.sync(full=True).to_dict()["total"]["deleted"] == 2
    assert "u-000" not in puller.ids("users")


def test_sync_without_changes_is_unchanged(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    puller.clock.advance(days=1)
    provider.roster = {name: [] for name in provider.roster}
    assert puller.sync().state == "unchanged"
    source = puller.source()
    assert (source.last_success, source.last_full) == ("2026-09-02T08:00:00.000Z", "2026-09-01T08:00:00.000Z")


def test_sync_is_full_after_some_days(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    puller.clock.advance(days=7)
    puller.sync()
    assert not any("filter" in path for path in provider.requests)
    assert puller.source().last_full == "2026-09-08T08:00:00.000Z"


def test_rejected_filter_leads_to_a_full_sync(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    provider.accepts_filter = False
    del provider.roster["enrollments"][0]
    assert puller.sync().to_dict()["total"]["deleted"] == 1


def test_demographics_are_read_with_the_opt_in_only(puller: Puller, provider: Provider) -> None:
    provider.roster["demographics"] = [record("u-001", birthDate="2015-01-31", sex="female", asian=True)]
    TenantStore(puller.store).update("default", demographics=False)
    report = pull(puller, provider)
    assert report.notes == ["Demographics were not read, because the tenant has not opted in to them."]
    assert (puller.ids("demographics"), puller.source().lacks_demographics) == (set(), True)
    TenantStore(puller.store).update("default", demographics=True)
    assert puller.sync().notes == []
    assert puller.records("demographics")["u-001"]["birthDate"] == "2015-01-31"
    assert puller.source().lacks_demographics is False


def test_first_sync_after_the_opt_in_reads_other_changes_only(puller: Puller, provider: Provider) -> None:
    TenantStore(puller.store).update("default", demographics=False)
    pull(puller, provider)
    TenantStore(puller.store).update("default", demographics=True)
    puller.sync()
    unfiltered = {path for path in provider.requests if "/ims/" in path and "filter" not in path}
    assert unfiltered
    assert all("/demographics?" in path for path in unfiltered)


@pytest.mark.parametrize("status", [403, 404, 501])
def test_missing_demographics_stay_as_they_are(puller: Puller, provider: Provider, status: int) -> None:
    TenantStore(puller.store).update("default", demographics=True)
    provider.roster["demographics"] = [record("u-001", sex="female")]
    pull(puller, provider)
    provider.replies = lambda path, query: Reply(status) if path == "demographics" else None
    report = puller.sync(full=True)
    assert (report.state, puller.ids("demographics")) == ("unchanged", {"u-001"})
    assert f"does not allow to read them (status {status}). Stored ones stay as they are." in report.to_text()
    assert puller.runs()[-1].report["notes"] == report.notes


def test_missing_demographics_do_not_prevent_a_delta(puller: Puller, provider: Provider) -> None:
    del provider.roster["demographics"]
    pull(puller, provider)
    puller.sync()
    assert all("filter" in path for path in provider.requests if "/ims/" in path and "demographics" not in path)


def test_full_sync_after_a_rejected_filter_is_sorted(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    provider.accepts_filter = False
    puller.sync()
    assert all("sort=sourcedId" in path and "limit=1000" in path for path in provider.requests[-6:])


def test_unknown_records_that_are_deleted_are_ignored(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    provider.roster["users"].append(user(60, status="tobedeleted", dateLastModified=LATER))
    assert puller.sync().state in ("committed", "unchanged")
    assert "u-060" not in puller.ids("users")


def test_metadata_and_unknown_members_are_accepted(puller: Puller, provider: Provider) -> None:
    provider.roster["users"][1] |= {"metadata": {"house": "Red", "level": 3, " padded ": "x"}, "shoeSize": 38}
    provider.roster["users"][2] |= {"metadata": {"team": ["a", "b"]}, "userIds": [{"type": "SIS", "identifier": "7"}]}
    provider.roster["users"][3] |= {"metadata": "none", "agents": [{"sourcedId": "u-004", "type": "user"}]}
    pull(puller, provider)
    users = puller.records("users")
    assert users["u-001"]["metadata"] == {"house": "Red", "level": "3"}
    assert users["u-002"]["metadata"] == {"team": '["a","b"]'}
    assert users["u-002"]["userIds"] == [{"type": "SIS", "identifier": "7"}]
    assert "metadata" not in users["u-003"]
    assert users["u-003"]["agents"][0]["sourcedId"] == "u-004"


def test_records_to_be_deleted_are_left_out_of_a_full_sync(puller: Puller, provider: Provider) -> None:
    provider.roster["users"].append(user(50, status="tobedeleted"))
    provider.roster["users"].append(user(51, status="inactive"))
    pull(puller, provider)
    assert len(puller.ids("users", active=False)) == 30


def test_values_of_the_wrong_type_are_problems(puller: Puller, provider: Provider) -> None:
    users = provider.roster["users"]
    users[1]["givenName"] = {"first": "Grace"}
    users[2]["grades"] = "05"
    users[3]["orgs"] = [None]
    users[4]["enabledUser"] = 1
    users[5]["role"] = ["student"]
    users[6]["status"] = "sleeping"
    users[7]["userIds"] = ["SIS:7"]
    users.append("no object")
    users.append({"givenName": "No", "familyName": "Id"})
    puller.add(provider.url)
    report = puller.sync()
    assert report.state == "refused"
    errors = {
        error["column"]: error["message"]
        for error in report.to_dict()["errors"]
        if error["file"] == "users.csv" and error["row"] != 2
    }
    assert errors == {
        "sourcedId": "the value is a text, which is not a value of this field (2 rows: 3, 6)",
        "givenName": "the value is an object, which is not a value of this field",
        "orgSourcedIds": "the value is null, which is not a value of this field",
        "enabledUser": "the value is a number, which is not a value of this field",
        "role": "the value is a list, which is not a value of this field (2 rows: 9, 11)",
        "status": "'sleeping' is not one of: active, tobedeleted",
    }
    missing_id = report.to_dict()["errors"][0]
    assert (missing_id["row"], missing_id["column"], missing_id["code"]) == (2, "sourcedId", "missing_value")
    assert puller.ids("users") == set()
    source = puller.source()
    assert (source.last_result, source.last_success, source.last_full) == ("refused", None, None)


def test_quarantine_sets_invalid_records_aside(puller: Puller, provider: Provider) -> None:
    TenantStore(puller.store).update("default", invalid_rows="quarantine")
    provider.roster["users"][1]["givenName"] = {"first": "Grace"}
    puller.add(provider.url)
    report = puller.sync()
    assert report.state == "committed"
    assert puller.ids("users") == {each["sourcedId"] for each in provider.roster["users"]} - {"u-001"}
    assert puller.ids("enrollments") == {each["sourcedId"] for each in provider.roster["enrollments"]} - {"e-001"}


def test_rejected_delta_is_followed_by_a_full_sync(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    provider.roster["users"].append(user(50, role="king", dateLastModified=LATER))
    assert puller.sync().state == "refused"
    del provider.roster["users"][-1]
    provider.requests.clear()
    puller.sync()
    assert not any("filter" in path for path in provider.requests)


def test_sync_that_exceeds_a_threshold_is_held(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    del provider.roster["users"][15:], provider.roster["enrollments"][15:]
    report = puller.sync(full=True)
    assert report.state == "held"
    assert len(puller.ids("users")) == 30
    source = puller.source()
    assert (source.last_result, source.last_run) == ("held", report.run)
    assert puller.files() == [".sync.lock"]


def test_dry_run_stores_nothing(puller: Puller, provider: Provider) -> None:
    puller.add(provider.url)
    before = puller.source()
    assert puller.sync(dry_run=True).state == "checked"
    assert (puller.source(), puller.ids("users"), puller.runs()) == (before, set(), [])
    provider.replies = lambda path, query: Reply(404)
    with pytest.raises(SourceError):
        puller.sync(dry_run=True)
    assert puller.source() == before


def test_two_syncs_of_a_tenant_exclude_each_other(puller: Puller, provider: Provider) -> None:
    puller.add(provider.url)
    with _working_folder(puller.settings, "default"), pytest.raises(SourceBusyError, match="another sync of tenant"):
        puller.sync()
    assert puller.sync().state == "committed"


def test_files_of_a_killed_sync_are_deleted(puller: Puller, provider: Provider) -> None:
    puller.add(provider.url)
    with _working_folder(puller.settings, "default") as folder:
        pass
    (folder / "1.part").write_text("personal data")
    puller.sync()
    assert puller.files() == [".sync.lock"]


def test_import_of_a_sync_leaves_an_audit_event(puller: Puller, provider: Provider) -> None:
    pull(puller, provider)
    events = {(event["event"], event.get("source")) for event in read_events(puller.store, "default")}
    assert events == {("source.added", "sis"), ("import.committed", None)}


def test_source_that_is_removed_meanwhile_still_imports(puller: Puller, provider: Provider) -> None:
    def remove(path: str, query: dict[str, str]) -> None:
        if path == "orgs" and puller.sources.list("default"):
            puller.sources.remove("default", "sis")

    puller.add(provider.url)
    provider.replies = remove
    assert puller.sync().state == "committed"
    assert puller.sources.list("default") == []


def test_result_is_stored_with_the_import_run(puller: Puller, provider: Provider) -> None:
    puller.add(provider.url)
    states = []
    options = SyncOptions(limits=puller.limits)
    report = sync_source(
        puller.store,
        puller.settings,
        "default",
        "sis",
        options,
        requested_by="ada",
        on_result=lambda report, state, transaction: states.append(state),
    )
    assert (report.state, states) == ("committed", ["committed"])


def test_new_enrollment_of_a_new_user_is_read_with_its_user(puller: Puller, provider: Provider) -> None:
    def add(path: str, query: dict[str, str]) -> None:
        if path == "users" and len(provider.roster["users"]) == 30:
            provider.roster["users"].append(user(70))
            provider.roster["enrollments"].append(enrollment(70))

    puller.add(provider.url)
    provider.replies = add
    assert puller.sync().state == "committed"
    assert "u-070" in puller.ids("users")
    assert json.dumps(sorted(puller.ids("enrollments"))).count("e-") == 30
