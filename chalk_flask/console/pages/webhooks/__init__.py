"""Webhooks: list, create, deliveries, and what an administrator can do with them."""
