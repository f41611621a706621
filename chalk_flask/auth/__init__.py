"""Tenants, credentials of every kind, and what they may do. Free of HTTP."""
