"""Keys of clients: each spelling of a credential or of a search counts for the same share."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from flask import Flask

from chalk_flask.logs.events import event_of, members_of
from chalk_flask.server.client_keys import ClientAddresses, credential_key, is_search
from tests.support.api_client import Consumer
from tests.support.server_process import ServerProcess, server_process

SIGNATURE = 'oauth_version="1.0", oauth_nonce="n1", oauth_signature="abc%3D"'

SPELLINGS = {
    "bearer": ["Bearer t1", "bearer t1", "BEARER t1", "Bearer   t1", "Bearer t1 "],
    "signed": [
        f'OAuth oauth_consumer_key="key-1", {SIGNATURE}',
        f"OAuth oauth_consumer_key=key-1, {SIGNATURE}",
        f"OAUTH\t{SIGNATURE},oauth_consumer_key = key-1",
        f"OAuth {SIGNATURE}, oauth_consumer%5Fkey=key%2D1",
        f'OAuth realm="oauth_consumer_key=other", oauth_consumer_key=key-1, {SIGNATURE}',
        'OAuth oauth_nonce="n2", oauth_consumer_key="key-1", oauth_signature="def"',
    ],
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_all_spellings_of_a_credential_have_one_key(name: str) -> None:
    assert len({credential_key({"AUTHORIZATION": text}) for text in SPELLINGS[name]}) == 1


@pytest.mark.parametrize(
    ("peer", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("fd00::1%eth0", "fd00::1%eth0"), ("8.8.8.8", "a public address")],
    ids=["loopback", "private", "public"],
)
def test_untrusted_proxy_is_logged_once(peer: str, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    addresses = ClientAddresses("192.0.2.1")
    addresses.warn_of_untrusted_headers(peer, {"HOST": "x"})
    addresses.warn_of_untrusted_headers("192.0.2.1", {"X_FORWARDED_FOR": "192.0.2.9"})
    assert caplog.records == []
    for name in ("X_FORWARDED_PROTO", "X_FORWARDED_FOR"):
        addresses.warn_of_untrusted_headers(peer, {name: "192.0.2.9"})
    [record] = caplog.records
    assert (event_of(record), members_of(record)) == ("proxy.untrusted", {"address": shown})
    assert "CHALK_TRUSTED_PROXY" in record.getMessage()


def test_different_credentials_have_different_keys() -> None:
    texts = ["Bearer t1", "Bearer T1", "Basic t1", "OAuth oauth_consumer_key=a", "OAuth oauth_consumer_key=b", ""]
    assert len({credential_key({"AUTHORIZATION": text}) for text in texts}) == len(texts)
    assert credential_key({}) == ""


def test_signed_requests_without_a_readable_key_share_one() -> None:
    texts = ["OAuth", "OAuth oauth_nonce=n1", "OAuth oauth_nonce=n2", f"OAuth {'x' * 60_000}"]
    assert len({credential_key({"AUTHORIZATION": text}) for text in texts}) == 1


# Application that takes 0.3 s, and returns the largest number of requests that ran at once with this path. Below
# /together it first waits until two have done so.
APP = """
import collections, threading, time

running, most, lock = collections.Counter(), collections.Counter(), threading.Lock()

def app(environ, start_response):
    path = environ["PATH_INFO"]
    with lock:
        running[path] += 1
        most[path] = max(most[path], running[path])
    end = time.monotonic() + 60
    while path.startswith("/together") and most[path] < 2 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.3)
    with lock:
        running[path] -= 1
    answer = b"%d" % most[path]
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with server_process(APP, CHALK_THREADS="2") as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "query", "most"),
    [
        ("/filter", "filter=a", 1),
        ("/escaped", "limit=1&%66ilter=a", 1),
        ("/escaped-last", "filte%72=a", 1),
        ("/sort", "sort=metadata.x1", 1),
        ("/escaped-sort", "so%72t=a", 1),
        ("/order", "orderBy=desc", 1),
        ("/together/page", "limit=1&fields=a%2Cb", 2),
    ],
)
def test_searches_use_half_of_the_threads(server: ServerProcess, path: str, query: str, most: int) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(server.get, [f"{path}?{query}"] * 3))
    assert max(map(int, answers)) == most


FIRST, SECOND = "userIds.identifier~'a,b,c'", "username~'d,e'"
RESPELLED_FILTERS = [
    f"filter={FIRST} OR {SECOND}",
    f"filter={SECOND} OR {FIRST}",
    f"filter= {FIRST} OR  {SECOND} ",
    "filter=userIds.identifier ~ 'a,b,c' OR username ~ 'd,e'",
    "filter=userIds.identifier~'c,b,a' OR username~'e,d'",
    'filter=userIds.identifier~"a,b,c" OR username~"d,e"',
    "filter=userIds.identifier~'A,B,C' OR username~'D,E'",
    "filter=userIds.identifier~'a, b, c' OR username~'d, e'",
    f"limit=1&filter={FIRST} OR {SECOND}",
    f"%66ilter={FIRST} OR {SECOND}",
    f"fi%6Cter={quote(f'{FIRST} OR {SECOND}')}",
    f"limit=1&filte%72={SECOND} OR {FIRST}",
    f"filter={FIRST} AND {SECOND}",
    f"filter={FIRST} and {SECOND}",
    f"filter={FIRST} Or {SECOND}",
    f"sort=familyName&filter={FIRST}",
]
"""Spellings of the same two comparisons. Those with `and` and `Or` are malformed, and rejected without a query."""


def test_each_respelled_filter_counts_as_a_search(app: Flask) -> None:
    consumer = Consumer(app)
    for query in RESPELLED_FILTERS:
        sent = query.replace(" ", "+").replace('"', "%22")
        assert is_search(sent), query
        assert consumer.get(f"/users?{sent}").status_code in (200, 400), query


@pytest.fixture(scope="module")
def large_server() -> Iterator[ServerProcess]:
    with server_process(APP, CHALK_THREADS="16", CHALK_REQUEST_LIMIT_CREDENTIAL="4") as started:
        yield started


def run_searches(server: ServerProcess, path: str, tokens: int, addresses: int) -> int:
    """Send all filters at once, in turn with each token and from each address; return how many ran at once at most."""

    def search(number: int) -> int:
        query = RESPELLED_FILTERS[number].replace(" ", "+").replace('"', "%22")
        scheme = "bearer" if number % 3 else "Bearer "
        header = f"Authorization: {scheme} t{number % tokens}"
        return int(server.get(f"{path}?{query}", header, source=f"127.0.0.{2 + number % addresses}"))

    with ThreadPoolExecutor(len(RESPELLED_FILTERS)) as pool:
        return max(pool.map(search, range(len(RESPELLED_FILTERS))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "tokens", "addresses", "most"),
    [
        ("/together/one-token-one-address", 1, 1, 4),
        ("/together/one-token-many-addresses", 1, 8, 4),
        ("/together/many-tokens-one-address", 16, 1, 6),
        ("/together/many-tokens-many-addresses", 16, 8, 8),
    ],
)
def test_respelled_filters_share_the_threads_of_their_client(
    large_server: ServerProcess, path: str, tokens: int, addresses: int, most: int
) -> None:
    assert 1 < run_searches(large_server, path, tokens, addresses) <= most
