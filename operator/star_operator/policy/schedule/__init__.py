"""When who retrains: `decide` with its clock, the line of those who wait, requests, and what is remembered and told."""
