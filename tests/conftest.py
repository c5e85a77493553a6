"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure: no test has a time limit for its own sake.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
