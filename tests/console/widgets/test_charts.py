"""Geometry of bar charts."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from flask import Flask, render_template_string

from chalk_flask.console.widgets.charts import HEIGHT, WIDTH, bar_chart


@pytest.mark.parametrize("values", [[], [0], [0, 0, 0], [1], [3, 7, 2], [123456789, 1], list(range(31))])
def test_bars_are_within_the_picture(values: list[int]) -> None:
    labels = [f"day {number}" for number in range(len(values))]
    chart = bar_chart("Changes", labels, {"Created": values, "Deleted": values})
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH + 0.2
        assert bar.y >= 0
        assert bar.y + bar.height <= HEIGHT
    assert len(chart.ticks) <= 8
    assert chart.grid[0].label == "0"


@pytest.mark.parametrize(("largest", "top"), [(0, "4"), (1, "4"), (9, "12"), (12, "12"), (190, "200"), (250, "280")])
def test_lines_of_the_grid_have_equal_distances(largest: int, top: str) -> None:
    grid = bar_chart("Title", ["day"], {"One": [largest]}).grid
    values = [int(line.label) for line in grid]
    assert (len(grid), grid[-1].label) == (5, top)
    assert len({second - first for first, second in pairwise(values)}) == 1


def test_heights_are_proportional() -> None:
    chart = bar_chart("Requests", ["a", "b"], {"Requests": [50, 100]})
    assert chart.bars[0].height * 2 == pytest.approx(chart.bars[1].height, abs=0.2)
    assert chart.bars[1].text == "b, Requests: 100"


def test_chart_is_readable_as_a_table(console_app: Flask) -> None:
    chart = bar_chart("<Changes>", ["Mon", "Tue"], {"Created": [1, 2], "Deleted": [3, 4000]})
    with console_app.test_request_context("/login"):
        text = render_template_string('{% from "console/macros.html" import chart %}{{ chart(it, "c") }}', it=chart)
    assert re.findall(r"<td[^>]*>([^<]+)</td>", text) == ["1", "3", "2", "4,000"]
    assert "<Changes>" not in text
    assert "<title>Tue, Deleted: 4,000</title>" in text
    assert 'fill="url(#c-stripes)"' in text, "the second series differs by its pattern"
