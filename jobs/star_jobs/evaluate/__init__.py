"""Evaluation: how well a student ranks, with intervals, beside recommenders that need no LLM (paper 4.1, B, C)."""
