"""What survives: journal, snapshot, lock, asks, heartbeat. One process writes them, any number reads."""
