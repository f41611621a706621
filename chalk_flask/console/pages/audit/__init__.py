"""Audit log: entries with filters, and export."""
