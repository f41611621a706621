from __future__ import annotations

import logging

from chalk_flask.tracebacks import RepeatedErrors, error_location


def fail(depth: int) -> None:
    if depth:
        fail(depth - 1)
    raise ValueError("a secret")


def caught(depth: int) -> ValueError:
    try:
        fail(depth)
    except ValueError as error:
        return error
    raise AssertionError


def test_error_location_names_type_file_line_and_function() -> None:
    line = fail.__code__.co_firstlineno + 3
    location = error_location(caught(0))
    assert location.startswith("ValueError at ")
    assert location.endswith(f"tests/test_tracebacks.py:{line} in fail")
    assert "secret" not in location


def test_error_location_lists_the_innermost_frames() -> None:
    location = error_location(caught(5), max_frames=3)
    assert location.count(" in fail") == 3
    assert location.count(" > ") == 2


def test_error_location_of_an_error_that_was_never_raised() -> None:
    assert error_location(KeyError("a secret")) == "KeyError"


def test_repeated_error_is_a_warning_only_once() -> None:
    errors = RepeatedErrors()
    levels = [errors.level(message) for message in ("full", "full", "", "full", "read-only")]
    assert levels == [logging.WARNING, logging.DEBUG, logging.DEBUG, logging.DEBUG, logging.WARNING]


def test_error_after_a_success_is_a_warning_again() -> None:
    errors = RepeatedErrors()
    assert errors.level("full", logging.ERROR) == logging.ERROR
    errors.clear()
    assert errors.level("full") == logging.WARNING
