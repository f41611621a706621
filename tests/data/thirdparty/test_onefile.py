from pathlib import Path

import pytest

from backends.testing import BackendConformance


class TestOneFile(BackendConformance):
    shared = False

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"onefile:///{tmp_path}/roster.json"

    @pytest.fixture
    def broken_url(self, tmp_path: Path) -> str:
        (tmp_path / "letter.txt").write_text("Dear Sir or Madam")
        return f"onefile:///{tmp_path}/letter.txt"
