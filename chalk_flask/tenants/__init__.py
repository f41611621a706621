"""Tenants of a store: names and settings go in, `Tenant` records come out.

`TenantStore` is the entry point: it creates, changes, lists and deletes tenants. Their records are in the control
tenant. `store.apply_tenant_rules` reads them to restrict a principal.
"""

from chalk_flask.tenants.record import Tenant
from chalk_flask.tenants.store import TenantError, TenantStore

__all__ = ["Tenant", "TenantError", "TenantStore"]
