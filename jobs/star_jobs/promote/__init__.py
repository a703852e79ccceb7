"""Promotion: a checkpoint's digest is written to its place in a Git repository, by a commit that says why."""
