"""Hostile texts in everything that the console shows: in Chromium they stay text, and no page becomes too wide."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urldefrag, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, FilePayload, Page, Request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from backends import Backend, open_store
from chalk_flask.admins import Administrator, AdministratorStore, SessionStore
from chalk_flask.auth.clients.store import ClientStore
from chalk_flask.auth.jwt.issuers import IssuerStore
from chalk_flask.auth.secrets.encryption import SecretCipher
from chalk_flask.auth.tokens.store import TokenStore
from chalk_flask.console.routes import ROUTES
from chalk_flask.names import LabelError, parse_label
from chalk_flask.storage import COLLECTIONS
from chalk_flask.tenants import TenantStore
from tests.e2e.conftest import serve
from tests.support.console.browser import PHONE
from tests.support.console.client import PASSWORD
from tests.support.console.hostile_text import CORPUS, FIND_EFFECTS, WATCH_EFFECTS, hostile_package, invalid_package
from tests.support.deliveries import add_webhook, list_deliveries, queue_events, respond_by_number, wait_until
from tests.support.packages import PackageBuilder
from tests.support.receiver import Receiver, run_receiver

pytestmark = pytest.mark.slow

PAGES_OF_A_ROUTE = 3
PAGES_OF_ROUTES = {"show_record": 6, "show_delivery": 12, "show_changes": 30}
"""Number of pages that the walk opens of each route and collection, and of certain routes."""
DELIVERIES = 12
TEXTS_IN_A_RESPONSE = 9
LABELS = [text for text in CORPUS if text.isprintable() and text.strip() == text]
"""Texts that may be a label."""
NAMES = [text for text in LABELS if text.isascii() and " " not in text]
"""Texts that may be the names of an issuer and its audience."""
POLYGLOT = "'\"></textarea></title></select><img src=x onerror=xss() data-xss>{{ 8191 * 8191 }}"

LINKS = "[...document.querySelectorAll('a[href]')].map(link => link.href)"
FILL_FORM = """([action, text]) => {
  const form = [...document.forms].find(each => new URL(each.action).pathname === action);
  for (const input of form.elements)
    if (["text", "textarea", "search", "url", "email"].includes(input.type)) input.value = text;
  form.noValidate = true;
  form.requestSubmit();
}"""

HOSTILE_FORMS = {
    "/settings/api-tokens/new": "/settings/api-tokens",
    "/settings/clients/new": "/settings/clients",
    "/settings/issuers/new": "/settings/issuers",
    "/settings/administrators/new": "/settings/administrators",
    "/settings": "/settings",
    "/webhooks/new": "/webhooks",
    "/tenants/new": "/tenants",
    "/explorer/getUser": "/explorer/getUser",
}
"""Pages with a form that shows what was entered, and the action of the form."""

QUERIES = (
    "/roster/users?{q}&{sort}&{orderBy}",
    "/roster/users?{filter}",
    "/explorer/getAllUsers?{filter}&{root}&{token}",
    "/audit?{event}&{id}&{from}&{to}&{before}",
    "/imports?{state}&{offset}",
    "/quality/records/{path}",
    "/no-such-page/{path}?{next}",
    "/roster/users/{path}",
)
"""Addresses with texts in their parameters."""


@dataclass
class HostileConsole:
    """Browser window of the width of a phone that reports what hostile texts cause."""

    page: Page
    url: str

    def __post_init__(self) -> None:
        self.effects: list[str] = []
        self.page.set_default_timeout(120_000)
        self.page.add_init_script(WATCH_EFFECTS)
        self.page.on("dialog", lambda dialog: self.effects.append(f"dialog {dialog.message}"))
        self.page.on("pageerror", lambda error: self.effects.append(f"error {error}"))
        self.page.on("request", self._on_request)

    def open(self, path: str) -> None:
        """Open a page, which may be an error page, and check it."""
        response = self.page.goto(self.url + path)
        assert response is not None
        assert response.status < 500, path
        self.check(path)

    def check(self, path: str) -> None:
        """Note what hostile texts cause on the current page."""
        assert self.page.url.startswith(self.url), self.page.url
        self.effects += [f"{path}: {effect}" for effect in self.page.evaluate(FIND_EFFECTS)]

    def submit(self, path: str, action: str, text: str) -> None:
        """Enter a text into all fields of a form, send it, and check the page that follows."""
        self.page.goto(self.url + path)
        with self.page.expect_navigation():
            self.page.evaluate(FILL_FORM, [action, text])
        self.check(f"{path} with {text!r}")

    def upload(self, name: str, package: PackageBuilder, invalid_rows: str = "") -> None:
        """Upload a package with a hostile file name, and wait for the page of its result."""
        self.page.goto(f"{self.url}/imports/upload")
        file = FilePayload(name=name, mimeType="application/zip", buffer=package.zip_bytes())
        self.page.get_by_label("Package", exact=True).set_input_files(file)
        self.check("/imports/upload with a file")
        self.page.locator("details:has(#invalid_rows) > summary").click()
        self.page.get_by_label("Invalid rows").select_option(invalid_rows)
        self.page.get_by_role("button", name="Upload").click()
        self.page.wait_for_url("**/imports/*-*")
        self.page.locator("main:not(:has([data-job]))").wait_for()
        self.check(f"import of {name!r}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", "blob:")):
            self.effects.append(f"request to {request.url}")


@pytest.fixture(scope="module")
def console(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileConsole]:
    """Console of a service whose labels, sessions and webhook responses are hostile, with an operator signed in."""
    folder = tmp_path_factory.mktemp("hostile")
    storage, data = f"sqlite:///{folder}/chalk.db", folder / "data"
    with run_receiver(respond_by_number(hostile_response)) as receiver, open_store(storage, COLLECTIONS) as store:
        secret = _fill(store, data, receiver)
        options = ("--storage", storage, "--data", data, "--webhook-allowed-hosts", "127.0.0.1")
        with serve(folder, "unused", *options) as service, browser.new_context(viewport=PHONE) as context:
            url = f"http://127.0.0.1:{service.port}"
            context.add_cookies([{"name": "chalk-session", "value": secret, "url": url}])
            wait_until(lambda: all(each.attempts for each in list_deliveries(store)))
            yield HostileConsole(context.new_page(), url)


def _fill(store: Backend, data: Path, receiver: Receiver) -> str:
    """Store tenants, credentials, webhooks and sessions with hostile labels. Return the session id of an operator."""
    TenantStore(store).update("default", demographics=True, max_changed="off")
    operator = AdministratorStore(store, SecretCipher(data)).create("north-owner", "owner", None, PASSWORD)
    tokens, clients, issuers = TokenStore(store), ClientStore(store, cipher=SecretCipher(data)), IssuerStore(store)
    scopes = {"https://purl.imsglobal.org/spec/or/v1p1/scope/roster.readonly"}
    for number, text in enumerate(LABELS):
        tokens.create(text, scopes)
        if number < DELIVERIES:
            clients.create(LABELS[-number], scopes)
            keys = f"https://keys-{number}.example.org/?{quote(text)}"
            issuers.add(f"{NAMES[number]}-{number}", NAMES[-number], scopes, jwks_url=keys, label=text)
            add_webhook(store, data, f"https://hooks.example.org/?{quote(text)}", f"wh-{number + 2}", label=text)
    add_webhook(store, data, receiver.url, "wh-1", label=POLYGLOT[:200])
    change = {"entity_type": "user", "entity": dict(enumerate_texts())}
    queue_events(store, DELIVERIES, "wh-1", data={"single": change})
    return _sign_in(store, operator)


def enumerate_texts() -> Iterator[tuple[str, str]]:
    """Yield each text as a key and as a value."""
    return zip(CORPUS, reversed(CORPUS), strict=True)


def _sign_in(store: Backend, operator: Administrator) -> str:
    """Start sessions with hostile browsers and addresses, and return the id of the last one."""
    with closing(SessionStore(store)) as sessions:
        for text in CORPUS[:DELIVERIES]:
            secret, _ = sessions.create(operator, text, text)
    return secret


def hostile_response(number: int) -> bytes:
    """Return the response of a webhook receiver with texts in its reason, headers and body."""
    start = number * TEXTS_IN_A_RESPONSE % len(CORPUS)
    texts = CORPUS[start : start + TEXTS_IN_A_RESPONSE]
    body = "\n".join(texts).encode()
    status = 200 if number < DELIVERIES else 400  # a failure delays the deliveries that follow
    head = f"HTTP/1.1 {status} {CORPUS[0]}\r\nX-Text: {CORPUS[number]}\r\nContent-Type: text/html\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_hostile_texts_stay_text_on_every_page(console: HostileConsole) -> None:
    names = (name for name in CORPUS if "/" not in name)
    console.upload(next(names), hostile_package())
    console.upload(next(names), invalid_package())
    visited = _walk(console)
    held = hostile_package(shift=1)
    held.rows["enrollments"] = held.rows["enrollments"][:2]
    console.upload(next(names), held)
    visited |= _walk(console, "/imports")
    console.upload(next(names), invalid_package(), "quarantine")
    visited |= _walk(console, "/quality")
    assert console.effects == []
    assert {"show_record", "show_changes", "show_delivery", "show_token_access", "show_warnings"} <= visited


def test_hostile_texts_in_forms_and_addresses_stay_text(console: HostileConsole) -> None:
    for path, action in HOSTILE_FORMS.items():
        for text in (POLYGLOT, "</script><svg onload=xss()>" + "W" * 170):
            console.submit(path, action, text)
    for number, text in enumerate(CORPUS):
        console.open(_address(QUERIES[number % 2], text))
        console.open(_address(QUERIES[2 + number % (len(QUERIES) - 2)], text))
    assert console.effects == []


def test_hostile_texts_in_a_filter_are_completed_as_text(console: HostileConsole) -> None:
    console.open("/roster/users")
    for text in CORPUS[::8]:
        console.page.locator("[data-filter-fields]").fill(f"familyName='{text}' AND ")
    console.submit("/explorer/getAllUsers", "/explorer/getAllUsers", "")
    assert console.effects == []


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        pytest.param("<img src=x onerror=xss()>", "violation of script-src", id="policy"),
        pytest.param("<details open ontoggle=xss()>", "attribute ontoggle", id="attribute"),
        pytest.param("<b data-xss>x</b>", "element <b data-xss", id="element"),
        pytest.param("<a href=javascript:xss()>x</a>", "href javascript:xss()", id="link"),
        pytest.param("<table><td nowrap>" + "W" * 400, "wider than a phone", id="width"),
        pytest.param("67092481", "a template was rendered", id="template"),
    ],
)
def test_effect_of_a_text_that_is_not_escaped_is_found(console: HostileConsole, text: str, effect: str) -> None:
    console.page.goto(f"{console.url}/about")
    console.page.evaluate("text => { document.querySelector('main').innerHTML = text }", text)
    wait_until(lambda: effect in " ".join(console.page.evaluate(FIND_EFFECTS)))


def _address(query: str, text: str) -> str:
    """Return an address with a text in its parameters."""
    names = ("q", "sort", "orderBy", "filter", "root", "token", "event", "id", "from", "to", "before", "state")
    params = {name: urlencode({name: text}) for name in (*names, "offset", "next")}
    return query.format(path=quote(text, safe=""), **params)


def _walk(console: HostileConsole, start: str = "/") -> set[str]:
    """Follow the links from a page to pages below it, open some of each route, and return the endpoints."""
    routes = Map([Rule(each.path.replace("<id:", "<path:"), endpoint=each.endpoint) for each in ROUTES]).bind("console")
    rng, queue, seen, opened = random.Random(5), [start], {start}, Counter[tuple[str, str]]()
    while queue:
        path = queue.pop(0)
        with suppress(HTTPException):
            endpoint, ids = routes.match(urlsplit(path).path)
            kind = (endpoint, str(ids.get("collection", "")))
            opened[kind] += 1
            if opened[kind] > PAGES_OF_ROUTES.get(endpoint, PAGES_OF_A_ROUTE) or _is_file(path):
                continue
            console.open(path)
            links = [urldefrag(link).url.removeprefix(console.url) for link in console.page.evaluate(LINKS)]
            new = sorted({link for link in links if link.startswith(start)} - seen)
            seen.update(new)
            queue += rng.sample(new, len(new))
    return {endpoint for endpoint, _ in opened}


def _is_file(path: str) -> bool:
    """Return True if the path leads to a file to download."""
    return urlsplit(path).path.endswith((".csv", "/body", "/export"))


def test_labels_of_the_service_are_valid() -> None:
    for text in LABELS:
        try:
            parse_label(text)
        except LabelError as error:
            raise AssertionError(text) from error
