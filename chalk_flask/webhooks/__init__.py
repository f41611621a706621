"""Webhooks: what changed is posted to those who asked for it."""
