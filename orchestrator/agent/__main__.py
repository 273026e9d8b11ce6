"""Where the agent starts: run with -I -S, it finds the package by its own place and imports nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from orchestrator.agent.service import main

    sys.exit(main(sys.argv[1:]))
