"""Data quality: checks that find records of a stored roster which are valid, but probably wrong."""

from chalk_flask.roster.quality.analyzer import CheckResult, QualityAnalyzer, QualityReport
from chalk_flask.roster.quality.checks import CHECKS, QualityCheck

__all__ = ["CHECKS", "CheckResult", "QualityAnalyzer", "QualityCheck", "QualityReport"]
