"""HTTP client of sources: certificates, and what urllib3 logs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from chalk_flask.sources import SourceError
from chalk_flask.sources.client.http_client import HttpClient
from tests.sources.conftest import LIMITS, Puller
from tests.support.receiver import CertificateAuthority
from tests.support.sources.provider import run_provider


def test_invalid_certificate_is_an_error_without_retries(puller: Puller, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    with run_provider(tls=authority.server_context("127.0.0.1")) as provider:
        puller.add(provider.url)
        with pytest.raises(SourceError, match=r"the certificate of 127\.0\.0\.1 is invalid"):
            puller.sync()
    assert (puller.pauses, provider.requests) == ([], [])


def test_certificate_of_a_known_authority_is_accepted(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    client = HttpClient(LIMITS, ssl_context=authority.client_context())
    with run_provider(tls=authority.server_context("127.0.0.1"), tokens={"t"}) as provider:
        for _ in range(2):
            url = f"{provider.url}/users?limit=1&offset=0"
            response = client.send("GET", url, lambda _: {"Authorization": "Bearer t"})
            assert response.status == 200
        client.close()


def test_certificate_of_another_host_is_rejected(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    client = HttpClient(LIMITS, ssl_context=authority.client_context())
    with run_provider(tls=authority.server_context("sis.example.org")) as provider, pytest.raises(SourceError):
        client.send("GET", provider.url, lambda _: {})
    client.close()


def test_urllib3_logs_nothing() -> None:
    assert logging.getLogger("urllib3.connectionpool").parent is logging.getLogger("urllib3")
    assert not logging.getLogger("urllib3").propagate
