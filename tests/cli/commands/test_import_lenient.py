"""Commands `import` with --lenient, and `tenant set` with it: each tolerance accepts one deviation, with a warning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends import open_store
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import RunCommand
from tests.support.packages import HEADERS, ROWS, PackageBuilder

Deviation = Callable[[PackageBuilder], object]


def change_file(name: str, change: Callable[[str], str], encoding: str = "utf-8") -> Deviation:
    """Return a function that changes the text of a file."""

    def deviate(package: PackageBuilder) -> None:
        package.raw[f"{name}.csv"] = change(package.files()[f"{name}.csv"].decode()).encode(encoding)

    return deviate


def without_columns(name: str, *columns: str) -> Deviation:
    """Return a function that removes columns of a file."""
    header = [column for column in HEADERS[name] if column not in columns]
    rows = [",".join(f'"{row.get(column, "")}"' for column in header) for row in ROWS[name]]
    return change_file(name, lambda text: "\n".join([",".join(header), *rows]))


def rename_files(rename: Callable[[str], str]) -> Deviation:
    """Return a function that gives each file another name."""

    def deviate(package: PackageBuilder) -> None:
        files = {rename(name): content for name, content in package.files().items()}
        package.rows.clear()
        package.raw = files | ({} if "manifest.csv" in files else {"manifest.csv": b""})

    return deviate


def with_umlaut(package: PackageBuilder) -> None:
    package.set("users", "pupil-2", familyName="Müller").set("users", "pupil-1", familyName="Zoë")
    change_file("users", str, "cp1252")(package)


def with_semicolons_in_lists(package: PackageBuilder) -> None:
    package.set("users", "pupil-2", orgSourcedIds="org-2,org-3")
    change_file("users", lambda text: text.replace(",", ";"))(package)


DEVIATIONS: dict[str, tuple[Deviation, str | None, str]] = {
    "T-01": (without_columns("users", "email", "sms", "dateLastModified"), "users.csv", "3 columns missing: "),
    "T-02": (lambda package: package.raw.update({"manifest.csv": b""}), "manifest.csv", "manifest.csv is missing"),
    "T-03": (
        change_file("users", lambda text: text.replace("sourcedId,", "SOURCEDID,", 1).replace("username", "userName")),
        "users.csv",
        "2 columns: SOURCEDID, userName",
    ),
    "T-04": (lambda package: package.set("users", "pupil-1", userIds="1001"), "users.csv", "1 row: "),
    "T-05": (lambda package: package.set("enrollments", "enr-2", role="aide"), "enrollments.csv", "1 row: "),
    "T-06": (with_umlaut, "users.csv", "2 rows: text is encoded as Windows-1252"),
    "T-07": (with_semicolons_in_lists, "users.csv", "the file is separated by semicolons"),
    "T-08": (lambda package: package.set("users", "pupil-1", agentSourcedIds="parent-1\xa0"), "users.csv", "1 row: "),
    "T-09": (lambda package: package.set("enrollments", "enr-1", beginDate="NULL"), "enrollments.csv", "1 row: "),
    "T-10": (lambda package: package.set("demographics", "pupil-1", sex="F", asian="1"), "demographics.csv", "1 row: "),
    "T-11": (
        lambda package: package.set("enrollments", "enr-1", beginDate="2026-08-17 00:00:00"),
        "enrollments.csv",
        "1 row: ",
    ),
    "T-12": (rename_files(str.upper), None, "14 files: MANIFEST.CSV, "),
}
OTHER_DEVIATIONS: dict[str, tuple[Deviation, str | None, str]] = {
    "T-02 and T-07": (
        change_file("manifest", lambda text: text.replace(",", ";")),
        "manifest.csv",
        "the file is separated by semicolons",
    ),
    "T-03": (
        change_file("manifest", lambda text: text.replace("propertyName,value", "PropertyName,Value")),
        "manifest.csv",
        "the header is PropertyName,Value",
    ),
    "T-05": (lambda package: package.set("users", "pupil-1", role="PUPIL"), "users.csv", "1 row: "),
    "T-10": (
        change_file("manifest", lambda text: text.replace(",bulk", ",Bulk").replace(",absent", ",ABSENT")),
        "manifest.csv",
        "13 rows: a word of a vocabulary has another letter case",
    ),
    "T-07": (
        change_file("orgs", lambda text: text.replace(",", "\t")),
        "orgs.csv",
        "the file is separated by tabs",
    ),
}


def write_package(deviate: Deviation, path: Path) -> Path:
    """Write the small package with a deviation."""
    package = PackageBuilder()
    deviate(package)
    package.folder(path)
    if package.raw.get("manifest.csv") == b"":
        (path / "manifest.csv").unlink()
    return path


def stored_user(tmp_path: Path, key: str) -> dict[str, Any]:
    """Return a user of the store of the command."""
    with open_store(f"sqlite:///{tmp_path}/chalk.db", COLLECTIONS) as store, store.read("default") as snapshot:
        user: dict[str, Any] = json.loads(snapshot.get_many("users", [key])[key])
        return user


@pytest.mark.parametrize("case", [*DEVIATIONS.items(), *OTHER_DEVIATIONS.items()], ids=lambda case: case[0])
def test_lenient_reading_accepts_deviation_with_a_warning(
    case: tuple[str, tuple[Deviation, str | None, str]], run: RunCommand, tmp_path: Path
) -> None:
    name, (deviate, file, message) = case
    path = write_package(deviate, tmp_path / "package")
    rejected = run("import", path, "--json")
    assert (rejected.code, rejected.json["state"]) == (1, "refused")
    assert len(rejected.json["errors"]) <= 3
    accepted = run("import", path, "--lenient", "--json")
    assert (accepted.code, accepted.json["state"]) == (0, "committed"), accepted.out
    [warning] = accepted.json["warnings"]
    assert (warning["file"], warning["message"][: len(message)]) == (file, message)
    assert f"({name[-4:]})." in warning["remedy"]
    assert run("check", "--json").code == 0


def test_each_tolerance_has_a_case() -> None:
    from chalk_flask.oneroster.csv.tolerances import TOLERANCES

    assert [tolerance.id for tolerance in TOLERANCES] == list(DEVIATIONS)
    assert len({tolerance.code for tolerance in TOLERANCES}) == len(TOLERANCES)


def test_values_of_a_deviating_package_are_stored_correctly(run: RunCommand, tmp_path: Path) -> None:
    path = tmp_path / "package"
    assert run("import", write_package(with_umlaut, path), "--lenient").code == 0
    assert stored_user(tmp_path, "pupil-2")["familyName"] == "Müller"
    assert run("import", write_package(with_semicolons_in_lists, path), "--lenient").code == 0
    orgs = stored_user(tmp_path, "pupil-2")["orgs"]
    assert [org["sourcedId"] for org in orgs] == ["org-2", "org-3"]
    assert run("import", write_package(DEVIATIONS["T-04"][0], path), "--lenient").code == 0
    assert "userIds" not in stored_user(tmp_path, "pupil-1")


def test_duplicate_ids_are_found_in_a_deviating_file(run: RunCommand, tmp_path: Path) -> None:
    package = PackageBuilder()
    package.rows["enrollments"] += [dict(row) for row in package.rows["enrollments"]]
    for row in package.rows["enrollments"]:
        row["sourcedId"] += "ä"
    change = change_file("enrollments", lambda text: text.replace("sourcedId", "SourcedID").replace(",", ";"), "cp1252")
    change(package)
    result = run("import", package.folder(tmp_path / "package"), "--lenient", "--json")
    assert [(error["code"], error["row"], error["value"]) for error in result.json["errors"]] == [
        ("repeated_id", 4, "enr-1ä"),
    ]
    assert "(2 rows: 4, 5)" in result.json["errors"][0]["message"]


@pytest.mark.parametrize(
    "deviate",
    [
        without_columns("users", "givenName"),
        change_file("users", lambda text: text.replace("email", "e-mail")),
        change_file("users", lambda text: text.replace(",", "|")),
        change_file("users", str, "utf-16"),
        change_file("orgs", lambda text: text.replace("North", "André"), "mac_roman"),
        change_file("orgs", lambda text: text.replace("North", "北京"), "gb18030"),
        change_file("orgs", lambda text: text.replace("North", "Νότος"), "iso8859_7"),
        lambda package: package.set("enrollments", "enr-2", role="tutor"),
        lambda package: package.set("users", "pupil-1", enabledUser="perhaps"),
        lambda package: package.set("demographics", "pupil-1", sex="x"),
        lambda package: package.set("enrollments", "enr-1", beginDate="08/17/2026"),
        lambda package: package.set("enrollments", "enr-1", beginDate="2026-08-16T22:00:00Z"),
        rename_files(lambda name: "User.csv" if name == "users.csv" else name),
    ],
    ids=[
        *("a required column", "a renamed column", "vertical bars", "UTF-16"),
        *("MacRoman", "GB18030", "Greek", "another role", "perhaps", "sex"),
        *("a date of another order", "a time that is not midnight", "another name of a file"),
    ],
)
def test_lenient_reading_rejects_other_deviations(deviate: Deviation, run: RunCommand, tmp_path: Path) -> None:
    result = run("import", write_package(deviate, tmp_path / "package"), "--lenient", "--json")
    assert (result.code, len(result.json["errors"])) == (1, 1), result.out


def test_renamed_files_in_a_folder_are_read_again_if_they_change(run: RunCommand, tmp_path: Path) -> None:
    path = write_package(rename_files(str.upper), tmp_path / "package")
    assert run("import", path, "--lenient", "--json").json["state"] == "committed"
    assert run("import", path, "--lenient", "--json").json["state"] == "unchanged"
    users = path / "USERS.CSV"
    users.write_text(users.read_text().replace("Pupil-1", "Renamed"))
    assert run("import", path, "--lenient", "--json").json["state"] == "committed"
    assert stored_user(tmp_path, "pupil-1")["givenName"] == "Renamed"


def test_renamed_files_in_a_folder_are_held_and_approved(run: RunCommand, tmp_path: Path) -> None:
    assert run("import", PackageBuilder().folder(tmp_path / "package")).code == 0

    def deviate(package: PackageBuilder) -> None:
        package.drop("enrollments", "enr-1", "enr-2")
        rename_files(str.capitalize)(package)

    held = run("import", write_package(deviate, tmp_path / "package"), "--lenient", "--json")
    assert (held.code, held.json["state"]) == (3, "held")
    assert run("imports", "approve", held.json["run"]).code == 0


@pytest.mark.usefixtures("empty_store")
def test_tenant_setting_is_the_default_of_the_option(run: RunCommand, tmp_path: Path) -> None:
    path = write_package(DEVIATIONS["T-04"][0], tmp_path / "package")
    assert "lenient          yes" in run("tenant", "set", "default", "--lenient").out
    assert run("tenant", "show", "default", "--json").json["lenient"] is True
    assert run("import", path, "--no-lenient", "--dry-run").code == 1
    assert run("import", path).code == 0
    assert run("tenant", "set", "default", "--no-lenient", "--json").json["lenient"] is False
    assert run("import", write_package(DEVIATIONS["T-05"][0], path)).code == 1


def test_role_map_setting_maps_roles(run: RunCommand, tmp_path: Path) -> None:
    path = write_package(lambda package: package.set("users", "pupil-2", role="Tutor"), tmp_path / "package")
    rejected = run("import", path, "--json")
    assert "import_role_map" in rejected.json["errors"][0]["remedy"]
    accepted = run("import", path, "--import-role-map", "tutor=teacher", "--json")
    assert accepted.code == 0
    [warning] = accepted.json["warnings"]
    assert (warning["code"], warning["message"][:5]) == ("mapped_role", "1 row")
    assert stored_user(tmp_path, "pupil-2")["role"] == "teacher"
    result = run("import", path, "--import-role-map", "tutor=boss", "--json")
    assert (result.code, result.json["error"]) == (2, "bad_settings")


def test_held_lenient_import_is_approved_with_its_options(run: RunCommand, tmp_path: Path) -> None:
    package = PackageBuilder()
    template = package.row("users", "pupil-2")
    package.rows["users"] += [template | {"sourcedId": f"u-{number}", "role": "pupil"} for number in range(100)]
    assert run("import", package.folder(tmp_path / "package"), "--lenient").code == 0
    package.rows["users"] = package.rows["users"][:50]
    held = run("import", package.folder(tmp_path / "package"), "--lenient", "--json")
    assert (held.code, held.json["state"]) == (3, "held")
    assert run("imports", "approve", held.json["run"]).code == 0
