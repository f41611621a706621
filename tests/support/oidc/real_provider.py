"""Identity provider that is a program of others (oidc-provider for Node.js), and a service that uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

from tests.support.paths import ROOT

__all__ = ["RealProvider", "run_real_provider", "write_settings"]

MODULE = Path(sys.prefix) / "npm" / "node_modules" / "oidc-provider" / "lib" / "index.js"
"""Module of oidc-provider. `./run test` installs the packages of tests/npm there."""
SCRIPT = ROOT / "tests" / "support" / "oidc" / "provider.mjs"

CLIENT_ID, CLIENT_SECRET = "chalk-console", "s3cret+with/special:characters%"


@dataclass(frozen=True)
class RealProvider:
    """Running provider. It accepts every password of every account."""

    issuer: str
    accounts_file: Path

    def set_claims(self, account: str, **claims: Any) -> None:
        """Give an account these claims from its next sign-in on."""
        accounts = json.loads(self.accounts_file.read_text())
        self.accounts_file.write_text(json.dumps(accounts | {account: claims}))


@contextmanager
def run_real_provider(folder: Path) -> Iterator[RealProvider]:
    """Run a provider on a free port until the block ends. It has no accounts yet."""
    node = which("node")
    assert node, "Node.js is missing: `./run test` installs it with npm"
    assert MODULE.exists(), "oidc-provider is missing: `./run test` installs it"
    accounts = folder / "accounts.json"
    accounts.write_text("{}")
    client = json.dumps({"id": CLIENT_ID, "secret": CLIENT_SECRET})
    with subprocess.Popen(
        [node, SCRIPT, MODULE, client, accounts], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            issuer = process.stdout.readline().strip()
            assert issuer, "the provider ended before it listened"
            yield RealProvider(issuer, accounts)
        finally:
            process.kill()


def write_settings(provider: RealProvider, folder: Path, access: str, **others: str) -> Path:
    """Write a settings file for a service that uses the provider, and return its path."""
    settings = {
        "storage": "memory:",
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_access": access,
        **others,
    }
    path = folder / "chalk.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    return path
