"""What begins runs by itself: the user's crontab, timers of systemd, and the scripts that they start."""
