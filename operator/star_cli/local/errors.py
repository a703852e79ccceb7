"""The one error of the local cluster: a sentence for the person at the terminal."""


class LocalClusterError(RuntimeError):
    """What was wrong, where, and what to do; shown as it is, without a traceback."""
