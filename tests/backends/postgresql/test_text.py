"""Text as PostgreSQL stores it."""

from __future__ import annotations

from itertools import product

from backends.postgresql.text import array_literal, decode_text, encode_text, identifier

TEXTS = ["".join(letters) for length in range(4) for letters in product("\0\1\2\3\5\6a", repeat=length)]


def test_stored_text_has_no_nul_and_is_restored() -> None:
    for text in TEXTS:
        assert "\0" not in encode_text(text)
        assert decode_text(encode_text(text)) == text


def test_stored_texts_have_the_order_and_the_substrings_of_the_originals() -> None:
    stored = {text: encode_text(text) for text in TEXTS}
    assert sorted(TEXTS, key=stored.__getitem__) == sorted(TEXTS)
    for text, part in product(TEXTS, repeat=2):
        assert (stored[part] in stored[text]) == (part in text)


def test_identifiers_are_distinct_and_fit() -> None:
    names = ["users", "home.street", "a" * 63, "a" * 64, "a" * 65, 'say "x"', "say ?x?", "ü", "u?", "\ud800"]
    quoted = [identifier(name) for name in names]
    assert quoted[:3] == ['"users"', '"home.street"', f'"{"a" * 63}"']
    assert len(set(quoted)) == len(names)
    for name in quoted:
        assert len(name.encode()) <= 65
        assert name.isascii()
        assert name.count('"') == 2
        assert "?" not in name


def test_array_literal_quotes_its_elements() -> None:
    assert array_literal(['a"b', "\\", None, "NULL", "{,}"]) == '{"a\\"b","\\\\",NULL,"NULL","{,}"}'
