"""Privacy: messages, logs and stored errors of syncs contain no secret and nothing of a person."""

from __future__ import annotations

import logging

import pytest

from chalk_flask.sources import SourceError
from tests.sources.conftest import Puller
from tests.support.sources.provider import SECRET, Provider, Reply

CANARY = "canaryname7d31"
BODY = f'{{"users": [{{"sourcedId": "{CANARY}", "givenName": "{CANARY}"'.encode()

REPLIES = {
    "broken JSON": Reply(200, BODY),
    "status": Reply(418, BODY),
    "error": Reply(500, BODY),
    "redirect": Reply(302, BODY, {"Location": f"https://other.example/{CANARY}?name={CANARY}"}),
    "invalid redirect": Reply(302, BODY, {"Location": f"http://[{CANARY}"}),
    "invalid link": Reply(200, b'{"users": []}', {"Link": f'<http://[{CANARY}>; rel="next"'}),
    "invalid header": Reply(200, BODY, {"Retry-After": CANARY, "X-Total-Count": CANARY}),
    "cut off": Reply(200, BODY, {"Content-Length": "999", "Connection": "close"}),
    "other object": Reply(200, b'{"%s": 1}' % CANARY.encode()),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_failed_sync_reveals_nothing(
    puller: Puller,
    provider: Provider,
    reply: Reply,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    provider.replies = lambda path, query: reply if path == "users" else None
    puller.add(provider.url)
    with pytest.raises(SourceError) as error:
        puller.sync()
    shown = "".join([str(error.value), repr(puller.source()), str(puller.source().to_dict()), *capfd.readouterr()])
    shown += "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for text in (CANARY, SECRET, "token-1", "sourcedId", "Grace"):
        assert text not in shown
    assert [record.__dict__["members"]["source"] for record in caplog.records if record.levelno >= logging.ERROR] == [
        "sis"
    ]


def test_complete_sync_logs_no_path_and_no_record(
    puller: Puller, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    puller.add(provider.url)
    puller.sync()
    puller.sync()
    shown = "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for text in ("/users", "filter", "Grace", "u-001", SECRET, "token-1"):
        assert text not in shown
