"""The only code that talks to the cluster: observe, apply, errors."""
