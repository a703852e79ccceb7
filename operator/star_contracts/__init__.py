"""The wire format between the operator and its jobs: artifacts, job specs, results, progress and data records.

Everything here is a value: no I/O, no clock, no environment. Both sides import this package and never each other.
"""
