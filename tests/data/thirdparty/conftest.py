import pytest

from backends import installed_backends

pytest.register_assert_rewrite("backends.testing")

# The URL can be opened only if the package is installed.
collect_ignore = [] if "onefile" in installed_backends() else ["test_onefile.py"]
