"""Files with passphrases."""

from __future__ import annotations

from pathlib import Path

import pytest

from chalk_flask.backup import BackupError
from chalk_flask.backup.encryption import read_passphrase


@pytest.mark.parametrize(
    "content", ["long enough pass\n", "long enough pass", "long enough pass\r\nmore\n"], ids=range(3)
)
def test_passphrase_is_the_first_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes(content.encode())
    assert read_passphrase(path) == "long enough pass"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"short\n", "too short"), (b"", "too short"), (b"\xff" * 20, "UTF-8")]
)
def test_unusable_passphrase_is_rejected_unquoted(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(BackupError, match=reason) as raised:
        read_passphrase(path)
    assert "short\n" not in str(raised.value)
