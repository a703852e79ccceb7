"""Datasets: source tables -> tables, ranking tasks and ground truth, and the typed view of a finished snapshot."""
