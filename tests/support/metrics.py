"""Samples of metrics in the format of Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["parse_samples"]


def parse_samples(text: str) -> dict[tuple[str, ...], float]:
    """Return the values of samples by name and values of labels, in the order of the names of the labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
