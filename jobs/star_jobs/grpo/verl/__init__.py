"""verl as GRPO's engine: its overrides, our agent loop and reward, and what it takes to run it on a CPU.

`overrides`, `layout` and `reward` import neither torch nor verl; `cpu_platform`, `cpu_rollout`, `generation` and
`agent_loop` are loaded by verl's own processes.
"""
