"""Screenshots of the admin console: `python -m docs.screenshots` writes those of `docs/console` again.

It starts the demo in a temporary folder, fills it by commands and in the browser, and takes a picture of each page in
the light and the dark theme, and on a phone. Secrets in the pictures belong to that store, which is deleted. Arguments
are names of pictures; without them, all are taken.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import zipfile
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Literal, TypeAlias

import pyotp
import requests
from playwright.sync_api import Browser, Page, ViewportSize

from chalk_flask.console.pages.demo.packages import SAMPLE_PACKAGES, package_bytes
from chalk_flask.console.pages.demo.receiver import RECEIVER_PATH
from docs.console_pictures import PICTURES, Picture
from tests.e2e.conftest import DEMO, run_command
from tests.support.console.browser import Console, launch_browser
from tests.support.console.demo import RunningDemo, run_demo, run_until_printed

__all__ = ["FOLDER", "GALLERY", "VARIANTS", "VISITS", "gallery_page", "take_pictures"]

FOLDER = Path(__file__).parent / "console"
GALLERY = FOLDER / "index.md"

Scheme: TypeAlias = Literal["light", "dark"]

PORT = 8080
"""Port of the demo, which some pages show."""
MAX_HEIGHT = 1500
"""Maximum height of a picture in pixels; longer pages are cut off."""
QUALITY = 75
"""Quality of the WebP files in percent."""

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}

VARIANTS: dict[str, tuple[ViewportSize, Scheme]] = {
    "light": (DESKTOP, "light"),
    "dark": (DESKTOP, "dark"),
    "phone": (PHONE, "light"),
}
"""Size and theme of the pictures of a page, by the end of the name of their files."""

_HEAD = """\
# Pages of the admin console

Each picture shows a page in the light theme, with links to the dark theme and to the page on a phone. The people are
invented. [Admin console](../how-to/console.md) describes what the pages do. `./run screenshots` takes the pictures
again.
"""

Ids: TypeAlias = dict[str, str]
"""Values for the braces in the paths of pictures, by name."""
Visit: TypeAlias = Callable[[Browser, Console, Ids], Page]
"""Function that opens a page, and returns it. The console is that of the operator."""


def gallery_page() -> str:
    """Return the page of the documentation with all pictures."""
    parts = [_HEAD]
    for group, pictures in groupby(PICTURES, lambda picture: picture.group):
        parts.append(f"## {group}\n")
        parts += [_gallery_entry(picture) for picture in pictures]
    return "\n".join(parts)


def _gallery_entry(picture: Picture) -> str:
    others = " · ".join(f"[{name}]({picture.name}-{name}.webp)" for name in ("dark", "phone"))
    return (
        f"### {picture.title}\n\n{picture.text} Also {others}.\n\n"
        f"![{picture.title}: {picture.text}]({picture.name}-light.webp)\n"
    )


def take_pictures(names: set[str]) -> None:
    """Take the pictures with these names, or all if there are none, and write the gallery."""
    FOLDER.mkdir(exist_ok=True)
    pictures = [picture for picture in PICTURES if not names or picture.name in names]
    with (
        tempfile.TemporaryDirectory() as folder,
        launch_browser() as browser,
        _district(Path(folder)) as (demo, ids),
        _window(browser, demo.url) as console,
    ):
        console.sign_in(demo.name, demo.password)
        _use_console(console, Path(folder), ids)
        for picture in pictures:
            _take(picture, _open(picture, browser, console, ids))
    GALLERY.write_text(gallery_page(), encoding="utf-8")


def _open(picture: Picture, browser: Browser, console: Console, ids: Ids) -> Page:
    if picture.name in VISITS:
        return VISITS[picture.name](browser, console, ids)
    console.open(picture.path.format(**ids))
    return console.page


def _take(picture: Picture, page: Page) -> None:
    for variant, (size, scheme) in VARIANTS.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        height: int = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": size["width"], "height": max(size["height"], min(height, MAX_HEIGHT))})
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        (FOLDER / f"{picture.name}-{variant}.webp").write_bytes(_capture(page))
    page.set_viewport_size(DESKTOP)


def _capture(page: Page) -> bytes:
    """Return the window as WebP, which the screenshots of Playwright cannot be."""
    session = page.context.new_cdp_session(page)
    result = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    session.detach()
    return b64decode(result["data"])


@contextmanager
def _window(browser: Browser, url: str) -> Iterator[Console]:
    """Yield a new window without a signed-in administrator."""
    with browser.new_context(viewport=DESKTOP, reduced_motion="reduce", locale="en-US", timezone_id="UTC") as context:
        yield Console(context.new_page(), url)


@contextmanager
def _district(folder: Path) -> Iterator[tuple[RunningDemo, Ids]]:
    """Run the demo with credentials, administrators, imports, and a second tenant. Yield it and their ids."""
    ids: Ids = {"folder": str(folder)}
    (folder / "demo").mkdir()
    run_command(folder / "demo", "import", DEMO)
    _run_commands(folder / "demo", ids)
    with run_demo(folder / "demo", PORT) as demo:
        for path in ("/users?limit=100", "/classes", "/enrollments?limit=50") * 4:
            url = f"{demo.url}/ims/oneroster/v1p1{path}"
            requests.get(url, headers={"Authorization": f"Bearer {ids['token_value']}"}, timeout=30).raise_for_status()
        yield demo, ids


def _run_commands(folder: Path, ids: Ids) -> None:
    def create(*args: str | Path) -> dict[str, str]:
        data: dict[str, str] = json.loads(run_command(folder, *args, "--json"))
        return data

    create("tenant", "create", "west-valley")
    create("tenant", "set", "default", "--demographics")
    token = create("token", "create", "--label", "Reading app", "--expires", "365d")
    ids["token"], ids["token_value"] = token["id"], token["token"]
    create("token", "create", "--label", "Library of Northgate", "--restrict-org", "org-north", "--expires", "20d")
    create("token", "create", "--label", "Cafeteria", "--scope", "roster-core.readonly", "--redact", "email")
    ids["client"] = create("client", "create", "--label", "Learning platform")["client_id"]
    issuer = ("--iss", "https://exams.example.org", "--aud", "https://roster.example.org", "--label", "Exam app")
    ids["issuer"] = create("issuer", "add", *issuer, "--jwks-url", "https://exams.example.org/jwks.json")["id"]
    create("admin", "create", "it-office", "--role", "viewer")
    ids["administrator"] = create("admin", "create", "front-office", "--role", "editor")["id"]
    ids["password"] = create("admin", "create", "north-owner", "--tenant", "default")["password"]


def _write_old_dates(path: Path) -> Path:
    """Write the sample district with dates in a form that lenient reading accepts with warnings."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(DEMO.glob("*.csv")):
            text = file.read_text(encoding="utf-8")
            if file.stem == "academicSessions":
                text = re.sub(r"\b(\d{4})-(\d\d)-(\d\d)\b", r"\1/\2/\3", text)
            archive.writestr(file.name, text)
    return path


def _use_console(console: Console, folder: Path, ids: Ids) -> None:
    """Create a webhook, and import the sample packages. The last one is held."""
    page = console.page
    console.open("/webhooks/new")
    page.get_by_label("URL").fill(f"{console.url}{RECEIVER_PATH}")
    page.get_by_label("Label").fill("Learning platform")
    page.get_by_role("button", name="Create webhook").click()
    page.get_by_text("whsec_").first.wait_for()
    ids["webhook"] = _last_part(page)
    page.get_by_role("button", name="Send test event").click()
    page.wait_for_url("**/deliveries/*")
    ids["event"] = _last_part(page)
    _sync_source(console.url, folder, ids)
    for package in SAMPLE_PACKAGES:
        (folder / f"{package.name}.zip").write_bytes(package_bytes(package))
    _upload(console, folder / "few-changes.zip")
    ids["rejected"] = _upload(console, folder / "mistakes.zip")
    run_command(folder / "demo", "import", _write_old_dates(folder / "nightly-export.zip"), "--lenient")
    ids["held"] = _upload(console, folder / "missing-enrollments.zip")
    ids["check"] = _upload(console, folder / "few-changes.zip", dry_run=True)
    _find_quality(console, ids)


def _sync_source(url: str, folder: Path, ids: Ids) -> None:
    """Add a source that reads the demo itself, and sync it. It changes nothing."""
    (folder / "token.txt").write_text(ids["token_value"])
    source = ("--url", f"{url}/ims/oneroster/v1p1", "--auth", "bearer", "--secret-file", folder / "token.txt")
    run_command(folder / "demo", "source", "add", "--name", "sis", *source, "--at", "02:30")
    run_command(folder / "demo", "source", "sync", "sis")


def _upload(console: Console, package: Path, *, dry_run: bool = False) -> str:
    """Upload a package, wait for the end of its job, and return the last part of the URL to which it leads."""
    page = console.page
    console.open("/imports/upload")
    page.get_by_label("Package", exact=True).set_input_files(package)
    if dry_run:
        page.get_by_label("Dry run").check()
    page.get_by_role("button", name="Upload").click()
    page.get_by_role("heading", name="Problems").wait_for()
    return _last_part(page)


def _find_quality(console: Console, ids: Ids) -> None:
    page = console.page
    _open_quality(console)
    for name, start in (("quality_records", "/quality/records/"), ("quality_warnings", "/quality/warnings/")):
        ids[name] = page.locator(f"a[href^='{start}']").first.get_attribute("href") or ""


def _open_quality(console: Console) -> None:
    """Open the page when the records are counted."""
    for _ in range(60):
        console.open("/quality")
        if not console.page.locator("[data-quality-state]").count():
            return
        console.page.wait_for_timeout(500)
    raise AssertionError("the analysis of the roster does not end")


def _last_part(page: Page) -> str:
    return page.url.partition("?")[0].rpartition("/")[2]


def _visit_setup(browser: Browser, _: Console, ids: Ids) -> Page:
    folder = Path(ids["folder"]) / "empty"
    folder.mkdir()
    with run_until_printed(folder, r"(http://\S+)(/setup/\S+)", "serve", "--port", "0") as link:
        page = browser.new_context(viewport=DESKTOP).new_page()
        Console(page, link[1]).open(link[2])
    return page  # no further request is needed


def _visit_sign_in(browser: Browser, console: Console, _: Ids) -> Page:
    page = browser.new_context(viewport=DESKTOP).new_page()
    Console(page, console.url).open("/login")
    return page


def _visit_code(browser: Browser, console: Console, ids: Ids) -> Page:
    """Turn on two-factor sign-in for an administrator, and sign in again."""
    page = browser.new_context(viewport=DESKTOP).new_page()
    own = Console(page, console.url)
    own.sign_in("north-owner", ids["password"])
    own.open("/account/two-factor")
    page.locator("input[name=code]").fill(pyotp.TOTP(page.inner_text("#totp-secret").strip()).now())
    page.locator("input[name=current_password]").fill(ids["password"])
    page.get_by_role("button", name="Turn on").click()
    page.get_by_text("recovery codes").first.wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Name").fill("north-owner")
    page.get_by_label("Password").fill(ids["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/login/code*")
    return page


def _visit_new_tenant(_: Browser, console: Console, __: Ids) -> Page:
    """Select the empty tenant, and open its dashboard; the next page selects the former tenant again."""
    _select_tenant(console, "west-valley")
    console.open("/")
    return console.page


def _visit_imports(_: Browser, console: Console, __: Ids) -> Page:
    _select_tenant(console, "default")
    console.open("/imports")
    return console.page


def _select_tenant(console: Console, name: str) -> None:
    console.open(f"/tenants/{name}")
    console.page.get_by_role("button", name="Select").click()
    console.page.wait_for_load_state()


def _visit_quality(_: Browser, console: Console, __: Ids) -> Page:
    _open_quality(console)
    return console.page


def _visit_new_token(_: Browser, console: Console, __: Ids) -> Page:
    console.open("/settings/api-tokens/new")
    console.page.get_by_label("Label").fill("Math app")
    console.page.get_by_role("button", name="Generate token").click()
    console.page.get_by_text(re.compile("chk_live_")).first.wait_for()
    return console.page


VISITS: dict[str, Visit] = {
    "setup": _visit_setup,
    "sign-in": _visit_sign_in,
    "code": _visit_code,
    "dashboard-new-tenant": _visit_new_tenant,
    "imports": _visit_imports,
    "quality": _visit_quality,
    "token": _visit_new_token,
}
"""Functions that open the pages to which no path leads, by the name of the picture."""

if __name__ == "__main__":
    take_pictures(set(sys.argv[1:]))
