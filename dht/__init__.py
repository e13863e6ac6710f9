"""Discovery: who serves what, told through a DHT. Nobody in the middle."""
