"""Folder `data` of a store: no store uses the folder of another one."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from backends import open_store
from chalk_flask import create_app
from chalk_flask.data_folder_binding import bind_data_folder, bind_if_created, check_data_folder
from chalk_flask.settings import Settings, SettingsError, load_settings
from chalk_flask.settings.data_folder import STORE_ID_FILE
from chalk_flask.settings.storage_location import storage_location
from chalk_flask.storage import COLLECTIONS
from tests.cli.conftest import RunCommand
from tests.cli.conftest import run as run
from tests.conftest import services_of, url_in
from tests.support.packages import PackageBuilder


@pytest.fixture
def empty_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return PackageBuilder().zip(tmp_path_factory.mktemp("package") / "district.zip")


def settings_in(folder: Path, backend: str, data: Path | None = None) -> Settings:
    folder.mkdir(exist_ok=True)
    return load_settings({"storage": url_in(folder, backend), "data": data and str(data)}, {})


@pytest.mark.on_backend("json", "sqlite")
def test_folder_of_another_store_is_rejected_with_both_paths(tmp_path: Path, backend: str) -> None:
    mine, other = settings_in(tmp_path / "a", backend), settings_in(tmp_path / "b", backend, tmp_path / "a/chalk-data")
    with open_store(mine.storage, COLLECTIONS) as store:
        bind_data_folder(store, mine)
        bind_data_folder(store, mine)
    before = sorted(tmp_path.rglob("*"))
    with open_store(other.storage, COLLECTIONS) as store, pytest.raises(SettingsError) as caught:
        bind_data_folder(store, other)
    for expected in (f"{tmp_path}/a/chalk-data", f"at {tmp_path}/a/chalk", f"at {tmp_path}/b/chalk", "--data (CHALK_"):
        assert expected in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path not in before and tmp_path / "b" not in path.parents] == []
    with pytest.raises(SettingsError, match="belongs to another store"):
        create_app(storage=other.storage, data=other.data)


@pytest.mark.on_backend("json", "sqlite")
def test_store_is_not_created_for_the_folder_of_another_one(
    tmp_path: Path, backend: str, run: RunCommand, empty_package: Path
) -> None:
    mine, other = settings_in(tmp_path / "a", backend), settings_in(tmp_path / "b", backend, tmp_path / "a/chalk-data")
    with open_store(mine.storage, COLLECTIONS) as store:
        bind_data_folder(store, mine)
    before = sorted(tmp_path.rglob("*"))
    options = ("--storage", other.storage, "--data", other.data)
    watch = ("import", "--watch", tmp_path, "--once")
    for command in (("import", empty_package), watch, ("demo", "--no-serve"), ("serve", "--port", "0")):
        result = run(*command, *options)
        assert (result.code, "belongs to another store" in result.err) == (2, True), command
    with pytest.raises(SettingsError, match="belongs to another store"):
        create_app(storage=other.storage, data=other.data)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.on_backend("json", "sqlite")
@pytest.mark.parametrize("is_replaced", [False, True], ids=["missing", "replaced"])
def test_message_about_a_lost_store_names_it_once(
    is_replaced: bool, tmp_path: Path, backend: str, run: RunCommand, empty_package: Path
) -> None:
    settings = settings_in(tmp_path / "a", backend)
    with open_store(settings.storage, COLLECTIONS) as store:
        bind_data_folder(store, settings)
    location = Path(storage_location(settings.storage))
    location.rename(tmp_path / "former")
    for name in ("-wal", "-shm"):
        location.with_name(location.name + name).unlink(missing_ok=True)
    if is_replaced:
        open_store(settings.storage, COLLECTIONS).close()
    result = run("import", empty_package, "--storage", settings.storage)
    change = "was replaced: its id differs from that in store-id.json" if is_replaced else "is missing"
    assert f"the store at {location} {change}, and the folder data {tmp_path}/a/chalk-data belongs to" in result.err
    assert (result.code, location.exists()) == (2, is_replaced)


@pytest.mark.on_backend("sqlite")
def test_one_of_two_stores_gets_the_folder(tmp_path: Path) -> None:
    for number in range(5):
        data = tmp_path / f"data-{number}"
        settings = [settings_in(tmp_path / f"{number}-{name}", "sqlite", data) for name in "ab"]
        barrier = Barrier(2)

        def bind(own: Settings, barrier: Barrier = barrier) -> bool:
            with open_store(own.storage, COLLECTIONS) as store:
                barrier.wait()
                try:
                    bind_data_folder(store, own)
                except SettingsError:
                    return False
                return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(bind, settings)) == [False, True]


@pytest.mark.on_backend("json", "sqlite")
def test_moved_or_copied_pair_belongs_together(tmp_path: Path, backend: str) -> None:
    settings = settings_in(tmp_path / "a", backend)
    with open_store(settings.storage, COLLECTIONS) as store:
        bind_data_folder(store, settings)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copied = settings_in(tmp_path / "b", backend)
    with open_store(copied.storage, COLLECTIONS) as store:
        check_data_folder(store, copied)


@pytest.mark.on_backend("sqlite")
def test_folder_that_earlier_versions_shared_keeps_working(
    storage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shared" / "imports" / "0123").mkdir(parents=True)
    app = create_app(storage=storage, data=str(tmp_path / "shared"))
    services_of(app).store.close()
    assert not (tmp_path / "shared" / STORE_ID_FILE).exists()
    assert f"{tmp_path}/shared is also used by another store, see {tmp_path}/shared/imports/0123" in caplog.text


@pytest.mark.on_backend("sqlite")
def test_store_with_files_in_another_folder_is_warned(
    storage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    default, other = load_settings({"storage": storage}, {}), settings_in(tmp_path, "sqlite", tmp_path / "other")
    with open_store(storage, COLLECTIONS) as store:
        bind_data_folder(store, default)
        bind_data_folder(store, other)
    assert f"The folder data is {tmp_path}/other, but {tmp_path}/chalk-data also belongs to this store" in caplog.text


@pytest.mark.every_backend
def test_command_writes_the_store_id_only_with_the_folder(storage: str, tmp_path: Path) -> None:
    settings = load_settings({"storage": storage, "data": str(tmp_path / "data")}, {})
    with open_store(storage, COLLECTIONS) as store:
        with bind_if_created(store, settings):
            pass
        assert not (tmp_path / "data").exists()
        with bind_if_created(store, settings):
            (tmp_path / "data").mkdir()
        assert (tmp_path / "data" / STORE_ID_FILE).is_file() == store.durable


@pytest.mark.on_backend("sqlite")
def test_application_writes_the_store_id_to_an_existing_folder(storage: str, tmp_path: Path) -> None:
    for exists in (False, True):
        services_of(create_app(storage=storage)).store.close()
        assert (tmp_path / "chalk-data" / STORE_ID_FILE).exists() == exists
        (tmp_path / "chalk-data").mkdir(exist_ok=True)
