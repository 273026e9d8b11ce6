"""A project for each test; what a test leaves running is a failure of that test."""

from tests.driving import project, projects

__all__ = ["project", "projects"]
