"""What is unfinished, finished past a gap, and waiting: pure, no I/O, no clock."""
