"""Settings of every test: hypothesis looks for counterexamples, and times nobody."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
