"""A service in a folder of its own, what it wrote there, and every form of the secrets that it was given."""

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

from tests.e2e.conftest import DEMO, ENVIRON, ROOT

API = "/ims/oneroster/v1p1"
GRANT = {"grant_type": "client_credentials"}
CANARY = "canaryvalue7d31"
"""Stands where a client asks about somebody."""


@dataclass
class Place:
    """A folder in which a service runs; whatever it and the commands write goes below it."""

    folder: Path
    storage: str
    url: str = ""
    secrets: dict[str, str] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    webhooks: list[str] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """Everything that might be written to is in the folder."""
        where = {"TMPDIR": str(self.folder / "tmp"), "HOME": str(self.folder), "CHALK_DATA": str(self.folder / "data")}
        told = {"CHALK_STORAGE": self.storage, "CHALK_LOG_LEVEL": "debug", "PYTHONPATH": str(ROOT)}
        told |= {"CHALK_WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"}
        return {**ENVIRON, **where, **told, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *words: str | Path) -> str:
        """What a command says on both of its ends; it must do what it is asked."""
        done = subprocess.run(
            [sys.executable, "-m", "chalk_flask", *map(str, words)],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.shown.append(done.stderr)
        return done.stdout

    def make(self, *words: str | Path) -> dict[str, Any]:
        """What a command makes; what it shows this once is kept apart from what must not hold it."""
        made: dict[str, Any] = json.loads(self.run(*words, "--json"))
        return made

    def ask(self, path: str, authorization: str = "", method: str = "GET", **options: Any) -> requests.Response:
        headers = {"Authorization": authorization} if authorization else {}
        return requests.request(method, self.url + path, headers=headers, timeout=30, **options)


def people() -> list[dict[str, str]]:
    with (DEMO / "users.csv").open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows))


def forms(place: Place) -> dict[str, bytes]:
    """Every secret in each form in which it travelled."""
    found: dict[str, bytes] = {}
    ids = [place.secrets[name] for name in place.secrets if name.endswith(" id")]
    for name, secret in place.secrets.items():
        if name.endswith(" id"):
            continue
        pairs = [f"{each}:{secret}" for each in ids]
        texts = [secret, quote(secret, safe=""), quote_plus(secret), secret[::-1], secret.split(".")[-1]]
        texts += [secret.removeprefix("whsec_")]
        found |= {f"{name}, form {number}": each.encode() for number, each in enumerate(texts)}
        for number, text in enumerate([secret, *pairs]):
            found[f"{name}, base64 {number}"] = base64.b64encode(text.encode()).rstrip(b"=")[:-2]
    return found


def files(place: Place) -> dict[str, bytes]:
    """Everything that was written."""
    return {
        str(path.relative_to(place.folder)): path.read_bytes() for path in place.folder.rglob("*") if path.is_file()
    }


def logged(place: Place) -> str:
    """What the service and the commands said, and the lines of reads: all that is no store."""
    kept = [text for name, text in files(place).items() if name in ("out.txt", "err.txt") or "reads" in name]
    return b"\n".join(kept).decode() + "\n".join(place.shown)
