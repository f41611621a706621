"""Sequence number of a single record."""

from __future__ import annotations

import pytest

from backends import Backend
from chalk_flask.roster.changes.sequence import ChangeSequence, sequence_of


@pytest.mark.every_backend
def test_sequence_of_a_record_is_that_of_its_last_change(store: Backend) -> None:
    for keys in (["u-1", "u-2"], ["u-1"]):
        with store.write("default") as transaction:
            sequence = ChangeSequence(transaction, first=False)
            sequence.assign("users", keys)
            sequence.store()
    with store.read("default") as snapshot:
        assert sequence_of(snapshot, "users", "u-1") == 3
        assert sequence_of(snapshot, "users", "u-2") == 2
        assert sequence_of(snapshot, "users", "u-3") is None
        assert sequence_of(snapshot, "classes", "u-1") is None


def test_record_of_the_first_load_has_no_sequence_number(store: Backend) -> None:
    with store.write("default") as transaction:
        sequence = ChangeSequence(transaction, first=True)
        sequence.assign("users", ["u-1"])
        sequence.store()
    with store.read("default") as snapshot:
        assert sequence_of(snapshot, "users", "u-1") is None
