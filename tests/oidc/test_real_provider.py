"""Sign-in to a running service with oidc-provider, the OpenID provider for Node.js, over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, OpenerDirector, ProxyHandler, build_opener

import pytest

from tests.e2e.conftest import RunningService, serve
from tests.support.console.client import forms_of, links_of, visible_text
from tests.support.oidc.real_provider import RealProvider, run_real_provider, write_settings

ACCESS = "groups:ops=*:owner, groups:staff=default:editor, domain:example.org=default:viewer"


@dataclass
class Browser:
    """Browser without JavaScript that follows redirects and keeps cookies, as a user of service and provider has it."""

    opener: OpenerDirector = field(
        default_factory=lambda: build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))
    )
    url: str = ""
    text: str = ""
    status: int = 0

    def open(self, url: str, form: dict[str, str] | None = None) -> None:
        """Open a page, or send a form."""
        data = urlencode(form).encode() if form is not None else None
        self.opener.addheaders = [("Accept", "text/html"), ("Connection", "close")]
        try:
            response: HTTPResponse | HTTPError = self.opener.open(url, data, timeout=30)
        except HTTPError as error:
            response = error
        with response:
            self.url, self.text, self.status = response.geturl() or url, response.read().decode(), response.status or 0

    def sign_in(self, service_url: str, account: str) -> None:
        """Sign in with an account of the provider, from the sign-in page of the console."""
        self.open(f"{service_url}/login")
        [link] = [link for link in links_of(self.text) if link.startswith("/login/oidc")]
        self.open(urljoin(self.url, link))
        if "/interaction/" in self.url:
            [form] = [form for form in forms_of(self.text) if "password" in form.names]
            self.open(urljoin(self.url, form.action), {**form.values.to_dict(), "login": account, "password": "any"})


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProvider]:
    with run_real_provider(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


@pytest.fixture(scope="module")
def service(provider: RealProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("service")
    settings = write_settings(provider, folder, ACCESS, oidc_domains="example.org, west.example.org")
    with serve(folder, "", "--config", settings, is_public=True) as service:
        yield service


@pytest.fixture
def url(service: RunningService) -> str:
    return f"http://127.0.0.1:{service.port}"


def role_in(text: str) -> str:
    """Return the role and tenant on the page of the own account."""
    found = re.search(r"Role (\w+) Tenant (\w+)", visible_text(text))
    assert found, visible_text(text)[:500]
    return " ".join(found.groups())


@pytest.mark.slow
def test_account_signs_in_with_the_access_of_its_groups(provider: RealProvider, url: str) -> None:
    provider.set_claims("user-1", email="a@example.org", email_verified=True, groups=["staff"])
    browser = Browser()
    browser.sign_in(url, "user-1")
    assert (browser.url, browser.status) == (f"{url}/", 200)
    browser.open(f"{url}/account")
    assert role_in(browser.text) == "editor default"
    assert "a@example.org" in visible_text(browser.text)


@pytest.mark.slow
def test_changed_groups_apply_at_the_next_sign_in(provider: RealProvider, url: str) -> None:
    roles = []
    for groups in (["staff"], ["ops"], []):
        provider.set_claims("user-2", email="b@example.org", email_verified=True, groups=groups)
        browser = Browser()
        browser.sign_in(url, "user-2")
        browser.open(f"{url}/account")
        roles.append(role_in(browser.text))
    assert roles == ["editor default", "owner all", "viewer default"]


@pytest.mark.slow
def test_account_that_loses_its_access_is_signed_out_everywhere(provider: RealProvider, url: str) -> None:
    provider.set_claims("user-3", email="c@west.example.org", email_verified=True, groups=["staff"])
    first, second = Browser(), Browser()
    first.sign_in(url, "user-3")
    assert first.status == 200
    provider.set_claims("user-3", email="c@west.example.org", email_verified=True, groups=[])
    second.sign_in(url, "user-3")
    assert second.status == 403
    assert "has no access to this console" in visible_text(second.text)
    first.open(f"{url}/account")
    assert first.url.startswith(f"{url}/login")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("email", "is_verified"), [("d@other.example", True), ("d@example.org", False)], ids=["domain", "unverified"]
)
def test_address_of_another_domain_is_denied(email: str, is_verified: bool, provider: RealProvider, url: str) -> None:
    provider.set_claims("user-4", email=email, email_verified=is_verified, groups=["ops"])
    browser = Browser()
    browser.sign_in(url, "user-4")
    assert browser.status == 403
    assert "user-4" in visible_text(browser.text)
    browser.open(f"{url}/account")
    assert browser.url.startswith(f"{url}/login")
