"""What an LLM puts into words ahead of time: neighbours in the user-item graph (paper 3.3), long histories (3.2, E)."""
