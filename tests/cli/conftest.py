"""A project for each test; what a test leaves running is a failure of that test."""

from tests.driving import project, projects
from tests.services.listening import server

__all__ = ["project", "projects", "server"]
