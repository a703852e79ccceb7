"""Weights on their way in and out: model sources, Hugging Face folders, and the import of GGUF files."""
