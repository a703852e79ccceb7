"""What people run: `starctl`, which is also `kubectl star`."""
