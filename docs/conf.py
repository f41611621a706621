"""Sphinx configuration of the documentation, see `./run docs`."""

from __future__ import annotations

import tomllib
from pathlib import Path

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "Chalk Flask"
author = "the Chalk Flask contributors"
version = release = _PROJECT["version"]

extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = "Chalk Flask"
html_static_path = ["_static"]
html_css_files = ["layout.css"]
html_show_copyright = False
html_show_sourcelink = False
html_use_index = False

# `sphinx -b linkcheck docs build/linkcheck` checks external links; local examples are not links to check.
linkcheck_ignore = [r"http://(127\.0\.0\.1|localhost).*", r"https://[a-z.]*example\.(org|com).*"]
