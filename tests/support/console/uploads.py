"""Administrators who upload packages to the console of a running service by HTTP."""

from __future__ import annotations

import io
import os
from contextlib import closing
from pathlib import Path

import requests

from backends import Backend
from chalk_flask.admins import AdministratorStore, Role, SessionStore
from chalk_flask.auth.secrets.encryption import SecretCipher
from tests.support.console.client import PASSWORD, find_form

__all__ = ["UPLOAD_PATH", "send_package", "signed_in_browser"]

UPLOAD_PATH = "/imports/upload"


def signed_in_browser(store: Backend, data: str | Path, role: Role = "owner") -> requests.Session:
    """Return a browser in which a new administrator of the tenant `default` is signed in. `data` is the setting."""
    administrators = AdministratorStore(store, SecretCipher(Path(data)))
    administrator = administrators.create(f"admin-{os.urandom(4).hex()}", role, "default", PASSWORD)
    with closing(SessionStore(store)) as sessions:
        secret, _ = sessions.create(administrator, "127.0.0.1", "Firefox")
    browser = requests.Session()
    browser.cookies.set("chalk-session", secret)
    browser.headers["Accept"] = "text/html"
    return browser


def send_package(browser: requests.Session, url: str, content: bytes) -> requests.Response:
    """Fill in the upload form of the service at a URL, send it, and return the response, which may be a redirect."""
    form = find_form(browser.get(url + UPLOAD_PATH, timeout=30).text, UPLOAD_PATH, {})
    files = {"package": ("district.zip", io.BytesIO(content), "application/zip")}
    data = dict(form.values.items(multi=False))
    data.pop("package", None)
    return browser.post(url + UPLOAD_PATH, data=data, files=files, timeout=60, allow_redirects=False)
