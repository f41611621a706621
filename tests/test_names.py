"""Names: labels, and suggestions for unknown names."""

from __future__ import annotations

import pytest

from chalk_flask.names import LabelError, parse_label, similar_names, suggestion_or_list


def test_parse_label_strips_blanks() -> None:
    assert parse_label("  nightly sync ") == "nightly sync"
    assert parse_label("é" * 200) == "é" * 200


@pytest.mark.parametrize("text", ["", "  ", "x" * 201, "two\nlines", "bell\a"])
def test_parse_label_rejects_other_texts(text: str) -> None:
    with pytest.raises(LabelError, match="a label must be one line of 1 to 200 printable characters, not '"):
        parse_label(text)


def test_parse_label_accepts_an_empty_optional_label() -> None:
    assert parse_label(" ", required=False) == ""
    with pytest.raises(LabelError, match="one line of 0 to 200"):
        parse_label("x" * 201, required=False)


def test_suggestion_is_a_similar_name_or_the_list() -> None:
    names = ["port", "host", "threads"]
    assert similar_names(" threds ", names) == ["threads"]
    assert similar_names("x" * 1_000_000 + "port", names) == []
    assert suggestion_or_list("prot", names, "settings") == "did you mean port?"
    assert suggestion_or_list("zzz", names, "settings") == "the settings are port, host, threads"
