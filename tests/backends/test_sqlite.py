from pathlib import Path

import pytest

from backends.testing import BackendConformance


class TestSQLite(BackendConformance):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/chalk.db"

    @pytest.fixture
    def broken_url(self, tmp_path: Path) -> str:
        (tmp_path / "letter.db").write_text("Dear Sir or Madam, this is no database. " * 100)
        return f"sqlite:///{tmp_path}/letter.db"
