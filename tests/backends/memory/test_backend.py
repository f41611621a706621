import pytest

from backends import InvalidStorageURLError, open_store, store_exists
from backends.testing import COLLECTIONS, BackendConformance


class TestMemory(BackendConformance):
    durable = False
    shared = False

    @pytest.fixture
    def url(self) -> str:
        return "memory:"


def test_every_opening_of_memory_is_an_empty_store_of_its_own() -> None:
    with open_store("memory:", COLLECTIONS) as one, open_store("MEMORY:", COLLECTIONS) as two:
        assert one is not two
    assert not store_exists("memory:")


@pytest.mark.parametrize("url", ["memory:x", "memory://", "memory:///path"])
def test_memory_has_no_place_to_name(url: str) -> None:
    with pytest.raises(InvalidStorageURLError, match="nothing follows the colon"):
        open_store(url, COLLECTIONS)
    with pytest.raises(InvalidStorageURLError, match="nothing follows the colon"):
        store_exists(url)
