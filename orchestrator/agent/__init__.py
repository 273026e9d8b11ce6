"""The agent: runs attempts and keeps them honest; a program of its own, so that it outlives the orchestrator."""
