"""(resource, observed, now) -> decision. Pure: phases, retries, gates."""
