"""Values in, values out: everything orch decides, without I/O, clock, dice or logging."""
