"""Roster browser: lists, search and pages of single records, all read through the API."""
