"""Pure values and pure decisions of the swarm. Knows no I/O and imports nothing but the standard library."""
