"""What orch asks of the world outside, each through one door of its own."""
