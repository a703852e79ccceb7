"""A stand-in for ms-swift's command line: same arguments, log and checkpoint files, no training."""
