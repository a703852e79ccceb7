"""What SFT and GRPO share: running an engine as a child process, staging its checkpoints, and naming its failures."""
