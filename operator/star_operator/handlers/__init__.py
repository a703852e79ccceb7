"""kopf decorators only: they turn watch events into work-queue keys."""
