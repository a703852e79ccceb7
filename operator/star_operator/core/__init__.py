"""Values and errors that every layer uses."""
