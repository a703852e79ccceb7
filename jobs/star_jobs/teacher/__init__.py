"""MARS, the multi-agent teacher (paper 3.2): many LLM calls a task, recorded as one trajectory.

generate.py    the sharded stage: runs MARS over tasks x passes, one object a finished trajectory
mars.py        one run: plan, analyse with tools, reflect and revise, rank
agents.py      what each agent is asked for (JSON schemas) and how its answer is read
prompts/       what each agent is told (Jinja templates)
ledger.py      what a shard has spent of the token budget
collect.py     the last stage: one artifact of all trajectories, with statistics (statistics.py, report.py)
"""
