"""The proof that a backend keeps the contract of `backends.base`: subclass the suite and name a URL.

    class TestMine(BackendConformance):
        @pytest.fixture
        def url(self, tmp_path: Path) -> str:
            return f"mine:///{tmp_path}/store"

That is all of a backend's test. For readable failures, `conftest.py` says before anything imports this package:

    pytest.register_assert_rewrite("backends.testing")

It needs pytest and hypothesis, which the package itself does not.
"""

from backends.testing.base import COLLECTIONS
from backends.testing.concurrency import ConcurrencyConformance
from backends.testing.errors import ErrorConformance
from backends.testing.paging import PagingConformance
from backends.testing.property_based import PropertyConformance
from backends.testing.queries import QueryConformance
from backends.testing.records import RecordsConformance
from backends.testing.text import TextConformance
from backends.testing.transactions import TransactionConformance

__all__ = ["COLLECTIONS", "BackendConformance"]


class BackendConformance(
    QueryConformance,
    TextConformance,
    PagingConformance,
    TransactionConformance,
    ConcurrencyConformance,
    RecordsConformance,
    ErrorConformance,
    PropertyConformance,
):
    """Every promise of the contract as a test. A subclass gives the fixture `url`: a store that does not exist yet.

    Class attributes say what applies: `durable` and `shared` as on the backend (both true unless said otherwise; a
    test compares), `examples`, how many generated data sets are queried. A fixture `broken_url`, where given, names a
    place that cannot be opened as a store, such as a file of something else.
    """
