"""Adding up tokens."""

from star_contracts.data import Usage


def add_usage(one: Usage, other: Usage) -> Usage:
    """Return the sum of two usages."""
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        calls=one.calls + other.calls,
    )


def without(all_: Usage, part: Usage) -> Usage:
    """Return a usage less a part of it."""
    return Usage(
        prompt_tokens=all_.prompt_tokens - part.prompt_tokens,
        completion_tokens=all_.completion_tokens - part.completion_tokens,
        calls=all_.calls - part.calls,
    )
