"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says nothing on a machine that does other things, too.
settings.register_profile("paceline", deadline=None)
settings.load_profile("paceline")
