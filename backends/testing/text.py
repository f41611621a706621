"""Tests with text and numbers that drivers, pattern languages and encodings often handle incorrectly."""

from __future__ import annotations

from itertools import product

import pytest

from backends import KEY, MAX_SUBSTRING_LENGTH, And, Backend, Compare, In, Not, OrderBy, Query, Record
from backends.testing.base import TENANT, Conformance, document_keys, fill, find_keys, record

__all__ = ["TextConformance"]

TEXTS = [
    "",
    " ",
    "a",
    "A",
    "é",
    "e\u0301",
    "É",
    "ß",
    "ss",
    "İ",
    "%",
    "_",
    "100%",
    "100x",
    "a_b",
    "axb",
    "*",
    "a?",
    "[a]",
    "O'Brien",
    "''",
    '"',
    '"name"',
    "\\",
    "\\%",
    "a\\_b",
    "\0",
    "a\0",
    "a\0b",
    "a\n",
    "a\r\n\tb",
    ";--",
    "1",
    "1.0",
    "10",
    "9",
    "01",
    "1e1",
    "NULL",
    "true",
    "\x7f",
    "\u0080",
    "\u2028",
    "\ufffd",
    "\uffff",
    "😀",
    "\U0010ffff",
    "أحمد",
    "李雷",
    "x" * 5000,
]
SEARCHED = [text[:MAX_SUBSTRING_LENGTH] for text in TEXTS]

NUMBERS = [0, 1, -1, 0.1, 0.1 + 0.2, 0.3, 1e-300, 5e-324, 1e300, -1e300, 2**53, 2.0**53 + 2, 2**63, 10**20]


class TextConformance(Conformance):
    """Tests that text compares by code point and numbers as floats."""

    @pytest.fixture
    def texts(self, store: Backend) -> Backend:
        """Return a store with one record per text, which is its key and its scalar, multiple and dynamic value."""
        fill(store, "people", [record(t, name=t, tags=(t, "z" + t), metadata__text=(t,)) for t in TEXTS])
        return store

    def test_text_is_returned_unchanged(self, texts: Backend) -> None:
        with texts.read(TENANT) as snapshot:
            assert list(snapshot.keys("people")) == sorted(TEXTS)
            assert snapshot.get_many("people", TEXTS) == {
                text: record(text, name=text, tags=(text, "z" + text), metadata__text=(text,)).body for text in TEXTS
            }

    @pytest.mark.parametrize("field", ["name", "metadata.text", KEY])
    def test_text_compares_by_code_point(self, texts: Backend, field: str) -> None:
        with texts.read(TENANT) as snapshot:
            for value in TEXTS:
                assert find_keys(snapshot, Compare(field, "=", value)) == [value]
                assert find_keys(snapshot, Compare(field, "<", value)) == sorted(t for t in TEXTS if t < value)
                assert find_keys(snapshot, Compare(field, ">=", value)) == sorted(t for t in TEXTS if t >= value)
                assert find_keys(snapshot, In(field, (value, "no such text"))) == [value]

    @pytest.mark.parametrize("field", ["name", "metadata.text", KEY])
    def test_contains_has_no_wildcards_and_is_case_sensitive(self, texts: Backend, field: str) -> None:
        with texts.read(TENANT) as snapshot:
            for value in SEARCHED:
                assert find_keys(snapshot, Compare(field, "~", value)) == sorted(t for t in TEXTS if value in t)

    def test_one_matching_value_of_several_is_enough(self, texts: Backend) -> None:
        with texts.read(TENANT) as snapshot:
            for value in TEXTS:
                assert find_keys(snapshot, Compare("tags", "=", "z" + value)) == [value]
            for value in SEARCHED:
                assert find_keys(snapshot, Compare("tags", "~", value)) == sorted(t for t in TEXTS if value in "z" + t)

    @pytest.mark.parametrize("field", ["name", "metadata.text", KEY])
    def test_text_sorts_by_code_point_in_all_planes(self, texts: Backend, field: str) -> None:
        with texts.read(TENANT) as snapshot:
            up = snapshot.find(Query("people", order=(OrderBy(field),)))
            assert document_keys(up.body()) == sorted(TEXTS)
            down = snapshot.find(Query("people", order=(OrderBy(field, descending=True),)))
            assert document_keys(down.body()) == sorted(TEXTS, reverse=True)

    def test_dynamic_path_accepts_any_text(self, store: Backend) -> None:
        paths = [f"metadata.{text}" for text in TEXTS if text]
        fill(store, "people", [Record(path, b'{"key":1}', {path: (path,)}) for path in paths])
        with store.read(TENANT) as snapshot:
            for path in paths:
                assert list(snapshot.keys("people", Compare(path, "~", "metadata"))) == [path]

    def test_numbers_compare_as_floats(self, store: Backend) -> None:
        fill(store, "people", [record(f"{i:02}", age=n, scores=(n,)) for i, n in enumerate(NUMBERS)])
        with store.read(TENANT) as snapshot:
            for field, value in product(("age", "scores"), NUMBERS):
                equal = [f"{i:02}" for i, n in enumerate(NUMBERS) if float(n) == float(value)]
                less = [f"{i:02}" for i, n in enumerate(NUMBERS) if float(n) < float(value)]
                assert find_keys(snapshot, Compare(field, "=", value)) == equal
                assert find_keys(snapshot, In(field, (value,))) == equal
                assert find_keys(snapshot, Compare(field, "<", value)) == less
            ranks = sorted(range(len(NUMBERS)), key=lambda i: float(NUMBERS[i]))
            page = snapshot.find(Query("people", order=(OrderBy("age"),)))
            assert document_keys(page.body()) == [f"{i:02}" for i in ranks]

    def test_negative_zero_equals_zero(self, store: Backend) -> None:
        fill(store, "people", [record("minus", age=-0.0), record("plus", age=0)])
        with store.read(TENANT) as snapshot:
            for zero in 0, 0.0, -0.0:
                assert find_keys(snapshot, Compare("age", "=", zero)) == ["minus", "plus"]
                assert find_keys(snapshot, Compare("age", "<", zero)) == []
                assert find_keys(snapshot, In("age", (zero,))) == ["minus", "plus"]

    def test_text_that_looks_like_a_number_is_compared_as_text(self, store: Backend) -> None:
        fill(store, "people", [record("a", name="10", tags=("10",)), record("b", name="9"), record("c", name="9.0")])
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot, Compare("name", "<", "9")) == ["a"]
            assert find_keys(snapshot, Compare("name", "=", "9")) == ["b"]
            assert find_keys(snapshot, Compare("tags", "=", "10.0")) == []

    def test_bodies_are_returned_byte_for_byte(self, store: Backend) -> None:
        bodies = {
            "escapes": b'{"a":"\\t\\n\\u0000\\/\\u00e9","href":"\\/orgs\\/1"}',
            "spaces": b'{ "b" :  [1 , 2.50, 1e5,-0.0 ] }',
            "seam": b'{"body":"\\t\\"body\\":","values":{},"key":"x"}',
            "raw": '{"ü":"😀\u2028\x7f"}'.encode(),
            "scalar": b'"just text, a comma"',
            "twice": b'{"a":1,"a":2}',
            "long": b'{"a":"' + b"x" * 300_000 + b'"}',
        }
        fill(store, "people", [Record(key, body) for key, body in bodies.items()])
        with store.read(TENANT) as snapshot:
            assert snapshot.get_many("people", list(bodies)) == bodies
            assert snapshot.find(Query("people")).body() == b",".join(bodies[key] for key in sorted(bodies))

    @pytest.mark.parametrize("text", ['\\"', "\\\\", "\\\\/", "\\n", "\\u0000", "\\/\\t", "\\\\\\/"])
    def test_page_with_escapes_says_so(self, store: Backend, text: str) -> None:
        records = [Record(f"{number:03}", b'{"href":"\\/orgs\\/1","a":"/"}') for number in range(600)]
        records[300] = Record("300", b'{"href":"\\/orgs","a":"%b"}' % text.encode())
        fill(store, "people", records)
        with store.read(TENANT) as snapshot:
            for query in Query("people"), Query("people", limit=301), Query("people", offset=300, limit=1):
                assert snapshot.find(query).has_escapes
            assert snapshot.find(Query("people", Compare(KEY, "=", "300"))).has_escapes

    def test_fields_with_similar_names_are_distinct(self, store: Backend) -> None:
        fill(store, "people", [record("a", metadata__X="1", metadata__x="2"), record("b", metadata__x="1")])
        with store.read(TENANT) as snapshot:
            assert find_keys(snapshot, Compare("metadata.x", "=", "1")) == ["b"]
            assert find_keys(
                snapshot, And((Compare("metadata.X", "=", "1"), Not(Compare("metadata.x", "=", "1"))))
            ) == ["a"]
