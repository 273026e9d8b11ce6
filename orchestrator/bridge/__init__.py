"""The one place that owns the link to agents: set-up, settings, health, recovery, shut-down."""
