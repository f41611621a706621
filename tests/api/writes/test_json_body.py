"""JSON bodies of gradebook writes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from chalk_flask.api.writes.json_body import MAX_BODY_BYTES, MAX_DEPTH
from tests.api.writes.conftest import PAYLOADS, Tool
from tests.support.api_client import IMS, error_message

DEEP = b'{"category": {"title": "x", "metadata": %s%s}}'


@pytest.mark.reading("W-12")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"title=Quiz", "not JSON"),
        (b'{"category": {"title": "Quiz"}', "not JSON"),
        (b'{"category": {"title": NaN}}', "not JSON"),
        (b'{"category": {"title": "x", "metadata": {"a": -Infinity}}}', "not JSON"),
        (b'{"category": {"title": "x", "metadata": {"a": 1e999}}}', "not JSON"),
        (b'{"category": {"title": "x", "metadata": {"a": 123456789012345678901}}}', "123456789012345678901"),
        (b'{"category": {"title": "x", "metadata": {"a": [-98765432109876543211]}}}', "-98765432109876543211"),
        (b'{"category": {"title": "x", "metadata": {"a": 1%s1}}}' % (b"0" * 250), "10000"),
        (b'{"category": {"title": "\xff"}}', "not JSON"),
        (b'{"category": {"title": "\\ud800"}}', "not JSON"),
        ('{"category": {"title": "Quiz"}}'.encode("utf-16"), "not JSON"),
        (b'\xef\xbb\xbf{"category": {"title": "Quiz"}}', "not JSON"),
        (b'{"category": {"title": "Quiz", "title": "Other"}}', "more than once"),
        (b'{"category": {"title": "x"}, "category": {"title": "y"}}', "more than once"),
        (b'{"category": {"title": "x", "metadata": {"a": {"b": 1, "b": 1}}}}', "more than once"),
        (b'{"category": {"title": "x", "metadata": {"a\\u0000": 1}}}', "NUL"),
        (b'{"category": {"title": "\\u0000"}}', "NUL"),
        (b'{"title": "Quiz"}', "envelope"),
        (b'{"lineItem": {"title": "Quiz"}}', "envelope"),
        (b'{"category": [{"title": "Quiz"}]}', "envelope"),
        (b'{"category": null}', "envelope"),
        (b'[{"category": {"title": "Quiz"}}]', "envelope"),
        (b"null", "envelope"),
        (b"0", "envelope"),
        (DEEP % (b'{"a":' * MAX_DEPTH, b"1" + b"}" * MAX_DEPTH), "nested"),
        (DEEP % (b"[" * 900, b"]" * 900), "nested"),
        (DEEP % (b"[" * 100_000, b"]" * 100_000), "not JSON"),
        (b"[" * 500_000, "not JSON"),
        (b'{"category": {"a": %s%s, "a": 1}}' % (b"[" * 1000, b"]" * 1000), ""),
    ],
)
def test_invalid_body_is_rejected(tool: Tool, body: bytes, message: str) -> None:
    for path in ("/categories/x", "/categories"):
        assert message in error_message(tool.send(path, body), 400, "invalid_data", "invalid data")
    assert tool.get("/categories/x").status_code == 404


@pytest.mark.reading("W-12")
def test_metadata_of_maximum_depth_is_stored(tool: Tool) -> None:
    deep = MAX_DEPTH - 3
    body = DEEP % (b'{"a":' * deep, b"1" + b"}" * deep)
    assert tool.send("/categories/x", body).status_code == 201
    assert tool.ids(f"/categories?filter=metadata.{'.'.join('a' * deep)}='1'") == ["x"]


@pytest.mark.reading("W-12")
@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 100 << 20])
def test_too_large_body_is_not_read(tool: Tool, size: int) -> None:
    headers = {"Authorization": f"Bearer {tool.token}", "Content-Type": "application/json"}
    response = tool.client.put(f"{IMS}/categories/x", headers=headers, input_stream=Unreadable(size))
    assert "larger" in error_message(response, 413, "invalid_data", "invalid data")


class Unreadable(io.RawIOBase):
    """Body that must not be read."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = self._size + offset if whence == 2 else offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        raise AssertionError(f"{size} bytes of the body were asked for")


@pytest.mark.reading("W-12")
def test_body_of_maximum_size_is_accepted(tool: Tool) -> None:
    body = b'{"category": {"title": "x"}}'.ljust(MAX_BODY_BYTES)
    assert tool.send("/categories/x", body).status_code == 201


@pytest.mark.reading("W-12")
@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        *(("application/json", 201), ("application/json; charset=utf-8", 201), ("Application/JSON", 201)),
        *(("application/vnd.ims.or.v1p1+json", 201), ("", 201)),
        *(("text/plain", 400), ("application/x-www-form-urlencoded", 400), ("multipart/form-data; boundary=x", 400)),
        *(("application/xml", 400), ("json", 400)),
    ],
)
def test_content_type_is_json_or_absent(tool: Tool, content_type: str, status: int) -> None:
    assert tool.send("/categories/x", PAYLOADS["/categories"], content_type=content_type).status_code == status


@pytest.mark.reading("W-05", "W-12")
@pytest.mark.parametrize("number", ["18446744073709551615", "-9223372036854775808", "1" + "0" * 22, "0.1", "1e300"])
def test_number_is_stored_as_it_was_sent(tool: Tool, number: str) -> None:
    body = b'{"category": {"title": "x", "metadata": {"a": %s}}}' % number.encode()
    assert tool.send("/categories/x", body).status_code == 201
    stored = tool.get("/categories/x").json
    assert stored is not None
    assert stored["category"]["metadata"]["a"] == json.loads(number)


def attack(names: int, leaves: int) -> bytes:
    """Return a body whose metadata has long names around many members."""
    path = b"".join(b'{"%s":' % (b"%d" % n * 500) for n in range(10, 10 + names))
    members = b",".join(b'"k%d":1' % n for n in range(leaves))
    return DEEP % (path, b"{%s}" % members + b"}" * names)


@pytest.mark.on_backend("sqlite")
@pytest.mark.reading("W-05")
@pytest.mark.parametrize(("names", "leaves"), [(28, 3_000), (28, 90_000), (1, 501), (28, 2)])
def test_nested_metadata_cannot_fill_the_disk(tool: Tool, tmp_path: Path, names: int, leaves: int) -> None:
    body = attack(names, leaves)
    assert len(body) <= MAX_BODY_BYTES
    message = error_message(tool.send("/categories/x", body), 422, "invalid_data", "invalid data")
    assert message.startswith("metadata: ")
    assert sum(file.stat().st_size for file in tmp_path.rglob("chalk.db*")) < 2 << 20


@pytest.mark.on_backend("sqlite")
def test_replaced_metadata_leaves_nothing_in_the_store(tool: Tool, tmp_path: Path) -> None:
    for number in range(30):
        metadata = {f"{number}-{name}-{'x' * 50}": "x" for name in range(400)}
        assert tool.send("/categories/x", {"category": {"title": "x", "metadata": metadata}}).status_code < 300
    assert sum(file.stat().st_size for file in tmp_path.rglob("chalk.db")) < 2 << 20
