"""A stand-in for verl's command line: same overrides, metrics and checkpoint files, no training."""
