"""Credentials of applications: API tokens, OAuth clients and trusted issuers."""
