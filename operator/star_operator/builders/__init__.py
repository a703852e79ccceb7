"""(resource, inputs, settings) -> child objects. Pure: no I/O, clock, random or environment."""
