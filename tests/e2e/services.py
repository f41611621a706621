"""Service in a folder of its own, the files that it writes, and every encoding of its secrets."""

from __future__ import annotations

import base64
import csv
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import requests

from tests.e2e.conftest import CLEAN_ENVIRON, DEMO, ROOT

API = "/ims/oneroster/v1p1"
GRANT = {"grant_type": "client_credentials"}
CANARY = "canaryvalue7d31"
"""Value in the requests of a client that must not appear in any log."""


@dataclass
class ServiceFolder:
    """Folder in which a service runs. The service and the commands write to it and to no other place."""

    folder: Path
    storage: str
    url: str = ""
    secrets: dict[str, str] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    webhooks: list[str] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """Environment in which every path for writing is inside the folder."""
        paths = {"TMPDIR": str(self.folder / "tmp"), "HOME": str(self.folder), "CHALK_DATA": str(self.folder / "data")}
        settings = {"CHALK_STORAGE": self.storage, "CHALK_LOG_LEVEL": "debug", "PYTHONPATH": str(ROOT)}
        settings |= {"CHALK_WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"}
        return {**CLEAN_ENVIRON, **paths, **settings, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *args: str | Path) -> str:
        """Run a command and return its standard output; keep its standard error in `shown`. It must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "chalk_flask", *map(str, args)],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.shown.append(done.stderr)
        return done.stdout

    def create(self, *args: str | Path) -> dict[str, Any]:
        """Run a command with --json and return the object. Its secrets are not in `shown`."""
        created: dict[str, Any] = json.loads(self.run(*args, "--json"))
        return created

    def request(self, path: str, authorization: str = "", method: str = "GET", **options: Any) -> requests.Response:
        """Send a request to the running service."""
        headers = {"Authorization": authorization} if authorization else {}
        return requests.request(method, self.url + path, headers=headers, timeout=30, **options)


def demo_users() -> list[dict[str, str]]:
    """Return the rows of users.csv in the sample district."""
    with (DEMO / "users.csv").open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows))


def encoded_secrets(service: ServiceFolder) -> dict[str, bytes]:
    """Return every secret in each encoding in which a client sends it, by a description."""
    encodings: dict[str, bytes] = {}
    ids = [service.secrets[name] for name in service.secrets if name.endswith(" id")]
    for name, secret in service.secrets.items():
        if name.endswith(" id"):
            continue
        pairs = [f"{client_id}:{secret}" for client_id in ids]
        texts = [secret, quote(secret, safe=""), quote_plus(secret), secret[::-1], secret.split(".")[-1]]
        texts += [secret.removeprefix("whsec_")]
        encodings |= {f"{name}, form {number}": text.encode() for number, text in enumerate(texts)}
        for number, text in enumerate([secret, *pairs]):
            encodings[f"{name}, base64 {number}"] = base64.b64encode(text.encode()).rstrip(b"=")[:-2]
    return encodings


def read_files(service: ServiceFolder) -> dict[str, bytes]:
    """Return the content of every file below the folder, by its relative path."""
    return {
        str(path.relative_to(service.folder)): path.read_bytes() for path in service.folder.rglob("*") if path.is_file()
    }


def log_text(service: ServiceFolder) -> str:
    """Return the output of the service and the commands and the access log."""
    logs = [text for name, text in read_files(service).items() if name in ("out.txt", "err.txt") or "reads" in name]
    return b"\n".join(logs).decode() + "\n".join(service.shown)
