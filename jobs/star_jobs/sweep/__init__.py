"""Deletes what is let go from the store: marks first, deletes after the grace period."""
