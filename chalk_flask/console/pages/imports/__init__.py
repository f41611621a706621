"""Imports: history, upload, jobs with their progress, reports, and held packages with their change lists."""
