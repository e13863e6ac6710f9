"""What the benchmarks share: shapes, checkpoints, the machine, clocks, reports. Nothing here is a benchmark."""
