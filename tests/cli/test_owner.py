"""Owner of the files that commands create: root works on the store of a service, and does not lock it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands.test_imports import hold_import
from tests.cli.conftest import RunCommand
from tests.conftest import url_in
from tests.support.storage.owners import give_to_other_user, owner_of, owners_below, requires_root


@requires_root
@pytest.mark.parametrize("data", ["", "elsewhere"], ids=["beside", "elsewhere"])
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_files_of_root_belong_to_the_owner_of_the_store(
    kind: str, data: str, run: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "service"
    folder.mkdir()
    give_to_other_user(folder)
    monkeypatch.setenv("CHALK_STORAGE", url_in(folder, kind))
    if data:
        monkeypatch.setenv("CHALK_DATA", data)
    hold_import(run, tmp_path)
    assert run("client", "create", "--label", "x", "--oauth1").code == 0
    assert run("webhook", "create", "--url", "https://hooks.example.org/x").code == 0
    assert run("imports", "approve", "latest").code == 0
    assert run("backup", tmp_path / "backup.tar.gz").code == 0
    owners = owners_below(folder)
    if data:
        owners |= owners_below(tmp_path / data) | {owner_of(tmp_path / data)}
    assert owners == {owner_of(folder)}
    assert owner_of(tmp_path / "backup.tar.gz") == owner_of(tmp_path)


@requires_root
@pytest.mark.parametrize("kind", ["json", "sqlite"])
def test_archive_belongs_to_the_service_unless_a_link_leads_to_a_file_of_root(
    kind: str, run: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, private = tmp_path / "service", tmp_path / "private.txt"
    (service / "backups").mkdir(parents=True)
    for folder in (service, service / "backups"):
        give_to_other_user(folder)
    monkeypatch.setenv("CHALK_STORAGE", url_in(service, kind))
    hold_import(run, tmp_path)
    assert run("backup", service / "backups" / "first.tar.gz").code == 0
    assert owners_below(service) == {owner_of(service)}
    private.write_text("of root")
    [data] = service.glob("*-data")
    (data / "linked.txt").symlink_to(private)
    assert run("backup", service / "backups" / "second.tar.gz").code == 0
    assert owner_of(service / "backups" / "second.tar.gz") == owner_of(private)
