"""Filters of the templates."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from chalk_flask.console.formatting import (
    format_ago,
    format_breakable,
    format_bytes,
    format_number,
    format_plural,
    format_sentence,
    format_time,
    format_until,
)
from chalk_flask.times import utc_now


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1234567, "1,234,567"), (1.5, "1.5"), (None, "—")])
def test_number_has_commas(value: float | None, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (300 << 10, "300 KiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
    ],
)
def test_size_has_a_unit(value: int, text: str) -> None:
    assert format_bytes(value) == text


def test_address_may_continue_on_the_next_line() -> None:
    assert format_breakable("a-b@north.example") == "a-b@<wbr>north.<wbr>example"
    assert format_breakable("<b>@") == "&lt;b&gt;@<wbr>"


def test_plural_agrees_with_the_number() -> None:
    assert format_plural(1, "token") == "1 token"
    assert format_plural(2000, "token") == "2,000 tokens"
    assert format_plural(0, "person", "people") == "0 people"


def test_message_becomes_a_sentence() -> None:
    assert format_sentence(ValueError("the package is too large")) == "The package is too large."
    assert format_sentence("Try HTTPS.") == "Try HTTPS."
    assert format_sentence("sourcedId is required") == "sourcedId is required."
    assert format_sentence("") == ""


def test_time_is_machine_readable_with_utc_as_title() -> None:
    text = format_time("2026-11-28T23:58:01.500Z")
    assert text == (
        '<time datetime="2026-11-28T23:58:01.500Z" title="2026-11-28 23:58:01 UTC" data-time="local">'
        "2026-11-28 23:58 UTC</time>"
    )
    assert format_time(datetime.fromisoformat("2026-11-29T01:58:01.500+02:00")) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(minutes=1, seconds=5), "1 minute ago"),
        (timedelta(hours=30), "1 day ago"),
        (timedelta(days=59, hours=1), "59 days ago"),
    ],
)
def test_age_is_relative(age: timedelta, text: str) -> None:
    assert f">{text}</time>" in format_ago(utc_now() - age)


def test_long_ages_are_dates() -> None:
    assert 'data-time="local"' in format_ago(utc_now() - timedelta(days=61))
    assert 'data-time="local"' in format_until(utc_now() + timedelta(days=61))


def test_time_until_an_event_is_relative() -> None:
    assert ">in 2 days<" in format_until(utc_now() + timedelta(days=2, minutes=1))
    assert ">3 hours ago<" in format_until(utc_now() - timedelta(hours=3, minutes=1))
    assert ">in less than a minute<" in format_until(utc_now() + timedelta(seconds=30))


def test_missing_time_is_a_word() -> None:
    assert format_time(None) == format_ago(None) == format_until(None) == "never"
    assert format_ago(None, "not yet") == "not yet"
