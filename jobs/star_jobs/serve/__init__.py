"""The gateway: one endpoint in front of the student's revisions, running its tool loop (paper 3.4)."""
