import pytest

from backends import installed_backends

pytest.register_assert_rewrite("backends.testing")

# Only where the package is installed can its URL be opened.
collect_ignore = [] if "onefile" in installed_backends() else ["test_onefile.py"]
