from __future__ import annotations

from tests.driving import project, projects
from tests.services.listening import server

__all__ = ["project", "projects", "server"]
