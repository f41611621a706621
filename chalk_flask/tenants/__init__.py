"""Tenants of a store.

`TenantStore` creates, changes, lists and deletes them. Their records are in the control tenant, where
`apply_tenant_rules` reads them to restrict a principal.
"""

from chalk_flask.tenants.record import Tenant
from chalk_flask.tenants.store import TenantError, TenantStore

__all__ = ["Tenant", "TenantError", "TenantStore"]
