"""The kinds of group star.recsys.dev/v1alpha1: pydantic models, one file a kind, the only source of the CRD schemas."""
