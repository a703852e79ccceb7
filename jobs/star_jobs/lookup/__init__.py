"""The look-up store of signals and summaries: written once, memory-mapped, read in well under a millisecond."""

from star_jobs.lookup.render import render_signal
from star_jobs.lookup.store import SignalStore, write_store

__all__ = ["SignalStore", "render_signal", "write_store"]
