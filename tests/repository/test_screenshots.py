"""Pictures of the console: each page has three, none is left over, and the gallery shows them."""

from __future__ import annotations

from chalk_flask.console.routes import ROUTES
from docs.console_pictures import PICTURES
from docs.screenshots import FOLDER, GALLERY, VARIANTS, VISITS, gallery_page

WITHOUT_PICTURE = {
    "serve_static",
    "download_problems",  # files
    "download_body",
    "download_sample_package",
    "export_audit_log",
    "show_progress",  # JSON for scripts
    "show_quality_state",
    "begin_oidc_sign_in",  # redirects
    "complete_oidc_sign_in",
}
"""Endpoints that are no pages."""

MAX_TOTAL_BYTES = 7_000_000


def test_every_page_of_the_console_has_a_picture() -> None:
    pages = {route.endpoint for route in ROUTES if "GET" in route.methods} - WITHOUT_PICTURE
    assert {picture.endpoint for picture in PICTURES} == pages


def test_every_picture_has_its_files_and_none_is_left_over() -> None:
    expected = {f"{picture.name}-{variant}.webp" for picture in PICTURES for variant in VARIANTS}
    assert {path.name for path in FOLDER.iterdir()} == expected | {GALLERY.name}


def test_every_picture_has_one_way_to_its_page() -> None:
    names = [picture.name for picture in PICTURES]
    assert len(set(names)) == len(names)
    assert set(VISITS) <= set(names)
    assert [picture.name for picture in PICTURES if not picture.path and picture.name not in VISITS] == []


def test_gallery_is_up_to_date() -> None:
    assert GALLERY.read_text(encoding="utf-8") == gallery_page(), "run: ./run screenshots"


def test_pictures_are_small() -> None:
    files = list(FOLDER.glob("*.webp"))
    assert all(path.read_bytes()[8:12] == b"WEBP" for path in files)
    assert sum(path.stat().st_size for path in files) <= MAX_TOTAL_BYTES
