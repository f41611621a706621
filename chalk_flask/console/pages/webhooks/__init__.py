"""Webhooks: list, creation, deliveries, and actions of an administrator."""
