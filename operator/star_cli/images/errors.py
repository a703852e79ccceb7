"""The error of the image commands."""


class ImagesError(RuntimeError):
    """What was wrong with which image or lock, and what to do; shown as it is, without a traceback."""


class DamagedStorageError(ImagesError):
    """A layer in the engine's storage is no more what it was when it was made: the disk, or a program, changed it."""
