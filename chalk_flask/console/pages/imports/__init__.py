"""Imports: history, upload, jobs with their progress, reports, and held packages with the changes they would make."""
