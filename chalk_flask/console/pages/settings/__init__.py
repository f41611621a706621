"""Administration: settings of the tenant, administrators, tenants, and facts about the service."""
