"""`starctl checkpoint`: models into a store and out of it, with their manifests, digests and proofs."""
