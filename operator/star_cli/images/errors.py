"""The error of the image commands."""


class ImagesError(RuntimeError):
    """What was wrong with which image or lock, and what to do; shown as it is, without a traceback."""
