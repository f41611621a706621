"""Rosters of many users, for tests of what holds an import."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.packages import Made

OWN = 4
"""Users of the small package that every other one is made of."""


def people(numbers: Iterable[int], named: str = "Same", other: Iterable[int] = ()) -> Made:
    """The small package and a user for each number; those in `other` have a name of their own."""
    made, changed = Made(), set(other)
    like = made.row("users", "pupil-2")
    for number in numbers:
        name = "Other" if number in changed else named
        made.rows["users"].append(like | {"sourcedId": f"u-{number}", "username": f"u{number}", "givenName": name})
    return made


def total(count: int) -> Made:
    """A package of so many users."""
    return people(range(count - OWN))
