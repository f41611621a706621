"""Dashboard of a tenant."""
