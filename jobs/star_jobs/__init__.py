"""The jobs: what runs inside the pods the operator creates. Start at `star_jobs.__main__` and `star_jobs.runtime`."""
