"""Where the sender starts: it finds the package by its own place, whatever folder it is started in."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from orchestrator.services.sender import main

    sys.exit(main(sys.argv[1:]))
