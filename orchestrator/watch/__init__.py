"""Watchers: they read what the loop decided and can neither slow, change nor break a run."""
