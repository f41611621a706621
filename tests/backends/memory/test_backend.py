import pytest

from backends import InvalidStorageURLError, open_store, store_exists
from backends.testing import COLLECTIONS, BackendConformance


class TestMemory(BackendConformance):
    """Conformance suite on the memory backend."""

    durable = False
    shared = False
    # The memory backend is compared with itself, so a few examples are enough.
    examples = 10
    copies = 10

    @pytest.fixture
    def url(self) -> str:
        return "memory:"


def test_each_open_creates_a_separate_empty_store() -> None:
    with open_store("memory:", COLLECTIONS) as first, open_store("MEMORY:", COLLECTIONS) as second:
        assert first is not second
    assert not store_exists("memory:")


@pytest.mark.parametrize("url", ["memory:x", "memory://", "memory:///path"])
def test_url_with_a_path_is_rejected(url: str) -> None:
    with pytest.raises(InvalidStorageURLError, match="nothing follows the colon"):
        open_store(url, COLLECTIONS)
    with pytest.raises(InvalidStorageURLError, match="nothing follows the colon"):
        store_exists(url)
