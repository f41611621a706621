"""Setup link: creates the first administrator, once."""

from __future__ import annotations

import threading

import pytest

from backends import CONTROL, Backend
from chalk_flask.admins import Administrator, AdministratorError, AdministratorStore, SetupLink, SetupLinkError
from chalk_flask.admins.setup_link import COLLECTION
from tests.admins.conftest import PASSWORD, events_of
from tests.support.clock import FakeClock


@pytest.fixture
def setup_link(store: Backend, clock: FakeClock) -> SetupLink:
    return SetupLink(store, clock)


def create(setup_link: SetupLink) -> str:
    secret = setup_link.create()
    assert secret is not None
    return secret


@pytest.mark.every_backend
def test_link_creates_an_operator_once(
    setup_link: SetupLink, administrators: AdministratorStore, store: Backend
) -> None:
    secret = create(setup_link)
    assert setup_link.is_valid(secret)
    created = setup_link.redeem(secret, "Kim", PASSWORD)
    assert (created.name, created.role, created.tenant) == ("kim", "owner", None)
    assert administrators.list() == [created]
    assert not setup_link.is_valid(secret)
    with pytest.raises(SetupLinkError, match="used or expired"):
        setup_link.redeem(secret, "lee", PASSWORD)
    assert setup_link.create() is None
    with store.read(CONTROL) as control:
        assert not control.exists(COLLECTION)
    event = {"event": "administrator.created", "id": created.id, "role": "owner", "by": "setup link"}
    assert events_of(store, CONTROL) == [event]


def test_link_is_stored_hashed(setup_link: SetupLink, store: Backend) -> None:
    secret = create(setup_link)
    with store.read(CONTROL) as control:
        [record] = control.scan(COLLECTION)
    assert secret.encode() not in record.body


def test_link_expires_after_a_day(setup_link: SetupLink, clock: FakeClock) -> None:
    secret = create(setup_link)
    clock.advance(hours=23.9)
    assert setup_link.is_valid(secret)
    clock.advance(hours=0.1)
    assert not setup_link.is_valid(secret)
    with pytest.raises(SetupLinkError):
        setup_link.redeem(secret, "kim", PASSWORD)


def test_new_link_replaces_the_former_one(setup_link: SetupLink) -> None:
    former, secret = create(setup_link), create(setup_link)
    assert not setup_link.is_valid(former)
    assert setup_link.is_valid(secret)


def test_link_is_invalid_once_there_is_an_administrator(
    setup_link: SetupLink, administrators: AdministratorStore
) -> None:
    secret = create(setup_link)
    administrators.create("kim", "viewer", "default", PASSWORD)
    assert not setup_link.is_valid(secret)
    with pytest.raises(SetupLinkError):
        setup_link.redeem(secret, "lee", PASSWORD)


@pytest.mark.parametrize("secret", ["", "0" * 32, "g" * 32, "é" * 32, "\udc80", "0" * 100_000])
def test_unknown_link_is_invalid(setup_link: SetupLink, administrators: AdministratorStore, secret: str) -> None:
    for _ in range(2):
        assert not setup_link.is_valid(secret)
        with pytest.raises(SetupLinkError):
            setup_link.redeem(secret, "kim", PASSWORD)
        create(setup_link)
    assert not administrators.exists()


@pytest.mark.parametrize(("name", "password"), [("x", PASSWORD), ("kim", "short"), ("", "")])
def test_link_can_be_used_again_after_an_invalid_form(
    setup_link: SetupLink, administrators: AdministratorStore, name: str, password: str
) -> None:
    secret = create(setup_link)
    with pytest.raises(AdministratorError):
        setup_link.redeem(secret, name, password)
    assert not administrators.exists()
    setup_link.redeem(secret, "kim", PASSWORD)


@pytest.mark.on_backend("memory", "sqlite")
def test_link_that_is_used_twice_at_once_creates_one_administrator(
    setup_link: SetupLink, administrators: AdministratorStore
) -> None:
    secret = create(setup_link)
    created: list[Administrator] = []
    rejected: list[SetupLinkError] = []

    def redeem(name: str) -> None:
        try:
            created.append(setup_link.redeem(secret, name, PASSWORD))
        except SetupLinkError as error:
            rejected.append(error)

    threads = [threading.Thread(target=redeem, args=(f"name-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(created), len(rejected)) == (1, 3)
    assert administrators.list() == created
