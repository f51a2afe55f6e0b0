"""Makes the lectures' own modules importable, before any test module is read."""
import lecturekit  # noqa: F401
