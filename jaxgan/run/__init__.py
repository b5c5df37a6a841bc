"""What runs a program: flags, the driver and its loop, the run directory, checkpoints, signals."""
