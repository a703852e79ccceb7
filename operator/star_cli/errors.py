"""The error of `starctl`'s commands that work on a cluster."""


class StarctlError(RuntimeError):
    """What was wrong, where, and what to do; shown as it is, without a traceback."""
