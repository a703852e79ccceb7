"""Collaborative signals: neighbours in the user-item graph, put into words by an LLM, in a store (paper 3.3)."""
