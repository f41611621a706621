"""Test suite for the contract of `backends.base`. A backend passes it by subclassing `BackendConformance`:

    class TestMine(BackendConformance):
        @pytest.fixture
        def url(self, tmp_path: Path) -> str:
            return f"mine:///{tmp_path}/store"

The fixture `url` returns the URL of a store that does not exist yet. The result is a complete test class for pytest.
For readable failures, `conftest.py` must run this before any import of the package:

    pytest.register_assert_rewrite("backends.testing")

The suite needs pytest and hypothesis, which the other packages do not need.
"""

from backends.testing.base import COLLECTIONS
from backends.testing.concurrency import ConcurrencyConformance
from backends.testing.deadlines import DeadlineConformance
from backends.testing.errors import ErrorConformance
from backends.testing.paging import PagingConformance
from backends.testing.property_based import PropertyConformance
from backends.testing.queries import QueryConformance
from backends.testing.records import RecordsConformance
from backends.testing.several_machines import SeveralMachinesConformance
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
    DeadlineConformance,
    SeveralMachinesConformance,
    PropertyConformance,
):
    """Tests for every promise of the contract. A subclass defines the fixture `url`: a store that does not exist yet.

    The class attributes `durable` and `shared`, which default to True, and `has_shared_values` and `has_leases`, which
    default to False, must equal those of the backend. `examples` is the number of generated data sets. The optional
    fixture `broken_url` names a place that cannot be opened as a store, such as a file of another program.
    """
