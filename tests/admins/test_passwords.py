"""Passwords: rules for new ones, and hashes that are computed one at a time."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from chalk_flask.admins.passwords import (
    MAX_RESERVATIONS,
    HasherBusyError,
    PasswordError,
    PasswordHasher,
    check_password,
    generate_password,
)
from tests.admins.conftest import PASSWORD


@pytest.fixture
def hasher() -> PasswordHasher:
    return PasswordHasher()


def test_hash_is_argon2id_with_a_salt_and_verifies(hasher: PasswordHasher) -> None:
    first, second = hasher.hash(PASSWORD), hasher.hash(PASSWORD)
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    assert hasher.verify(first, PASSWORD)
    assert not hasher.verify(first, PASSWORD + " ")
    assert hasher.hash_count == 4


@pytest.mark.parametrize("damaged", ["", "x", "$argon2id$v=19$m=19456,t=2,p=1$", "$argon2id$v=19$m=8,t=1,p=1$YQ$YQ"])
def test_damaged_hash_verifies_no_password(hasher: PasswordHasher, damaged: str) -> None:
    assert not hasher.verify(damaged, PASSWORD)


def test_unknown_name_costs_one_hash_with_the_same_parameters(hasher: PasswordHasher) -> None:
    hasher.verify_dummy(PASSWORD)
    assert hasher.hash_count == 1
    assert hasher._dummy_hash.rpartition("$")[0].rpartition("$")[0] == "$argon2id$v=19$m=19456,t=2,p=1"
    assert len(hasher._dummy_hash) == len(hasher.hash(PASSWORD))


@pytest.mark.parametrize("password", ["e\u0301t\u00e9 in the city", "\ufb01ne weather today", "lone \udc80 surrogate"])
def test_password_in_any_characters_verifies(hasher: PasswordHasher, password: str) -> None:
    assert hasher.verify(hasher.hash(password), password)


def test_password_verifies_however_its_characters_are_composed(hasher: PasswordHasher) -> None:
    assert hasher.verify(hasher.hash("\u00e9t\u00e9 in the city"), "e\u0301te\u0301 in the city")


def test_longer_password_is_another_password(hasher: PasswordHasher) -> None:
    longest = "ab" * 128
    hashed = hasher.hash(longest)
    assert hasher.verify(hashed, longest)
    assert not hasher.verify(hashed, longest + "a")
    assert not hasher.verify(hashed, longest * 4000)


def test_one_hash_is_computed_at_a_time(hasher: PasswordHasher) -> None:
    with hasher._lock:
        threads = [threading.Thread(target=hasher.verify_dummy, args=(PASSWORD,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert hasher.hash_count == 0
    for thread in threads:
        thread.join()
    assert hasher.hash_count == 3


def test_sign_ins_that_wait_are_limited(hasher: PasswordHasher) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_RESERVATIONS):
            stack.enter_context(hasher.reserve())
        with pytest.raises(HasherBusyError), hasher.reserve():
            pass
    with hasher.reserve():
        pass


@pytest.mark.parametrize(
    "password", ["", "short", "x" * 12, "abcd" * 3, "a" * 257, "kim.lee@example.org", "KIM.LEE@example.org"]
)
def test_weak_password_is_rejected_without_quoting_it(password: str) -> None:
    with pytest.raises(PasswordError) as rejection:
        check_password(password, "kim.lee@example.org")
    assert not password or password not in str(rejection.value)


@pytest.mark.parametrize("password", ["abcdeabcdeab", "12 characters", "\u00fcberall " * 32, PASSWORD])
def test_password_within_the_rules_is_accepted(password: str) -> None:
    check_password(password, "kim")


def test_generated_password_is_random_and_within_the_rules() -> None:
    passwords = {generate_password() for _ in range(100)}
    assert len(passwords) == 100
    for password in passwords:
        check_password(password, "kim")
