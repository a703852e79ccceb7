"""Supervised fine-tuning on the teacher's kept trajectories (paper 3.4.2, A.2): a thin adapter to ms-swift."""
