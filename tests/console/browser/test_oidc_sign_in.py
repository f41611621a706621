"""Sign-in with an identity provider in the browser: the button, the pages of oidc-provider, and back to the console."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.e2e.conftest import serve
from tests.support.console.browser import DESKTOP, Console, serious_violations
from tests.support.oidc.real_provider import RealProvider, run_real_provider, write_settings

ACCESS = "groups:staff=default:editor"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealProvider]:
    with run_real_provider(tmp_path_factory.mktemp("provider")) as provider:
        provider.set_claims("user-1", email="a@example.org", email_verified=True, groups=["staff"])
        provider.set_claims("user-2", groups=["guests"])
        yield provider


@pytest.fixture(scope="module")
def service_url(provider: RealProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("service")
    settings = write_settings(provider, folder, ACCESS, oidc_label="School account")
    with serve(folder, "", "--config", settings) as service:
        yield f"http://127.0.0.1:{service.port}"


@pytest.fixture
def visitor(browser: Browser, service_url: str) -> Iterator[Console]:
    """Console in a new window without a signed-in administrator. At the end, no script may have failed."""
    with browser.new_context(viewport=DESKTOP) as context:
        yield Console(context.new_page(), service_url)


def sign_in_at_provider(console: Console, account: str) -> None:
    """Follow the button of the sign-in page, and fill in the form of the provider."""
    page = console.page
    page.get_by_role("link", name="Sign in with School account").click()
    page.wait_for_url("**/interaction/*")
    page.locator("input[name=login]").fill(account)
    page.locator("input[name=password]").fill("any")
    page.get_by_role("button").click()
    page.wait_for_url(re.compile(re.escape(console.url)))
    console.complaints.clear()  # the page of the provider loads fonts of another host


@pytest.mark.slow
def test_administrator_signs_in_with_the_provider(visitor: Console) -> None:
    visitor.open("/login?next=/imports")
    assert serious_violations(visitor.page) == []
    sign_in_at_provider(visitor, "user-1")
    assert visitor.page.url == f"{visitor.url}/imports"
    visitor.open("/account")
    assert "You sign in with School account." in visitor.page.inner_text("main")
    assert serious_violations(visitor.page) == []
    assert visitor.complaints == []
    session = {cookie["name"]: cookie for cookie in visitor.page.context.cookies(visitor.url)}["chalk-session"]
    assert session["httpOnly"]
    assert session["sameSite"] == "Lax"


@pytest.mark.slow
def test_account_without_access_sees_why_and_can_try_again(visitor: Console) -> None:
    visitor.open("/login")
    sign_in_at_provider(visitor, "user-2")
    text = visitor.page.inner_text("main")
    assert "has no access to this console" in text
    assert "user-2" in text
    assert serious_violations(visitor.page) == []
    assert visitor.page.get_by_role("link", name="Sign in with School account").is_visible()
