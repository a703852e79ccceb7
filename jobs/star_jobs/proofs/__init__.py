"""Proofs of a checkpoint: its model card, provenance and verdicts, signed; and the look whether they hold."""
