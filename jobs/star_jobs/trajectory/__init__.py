"""The student's language: its prompt, its tagged answer, its tool calls, and how an answer is judged.

The format and what each module is for are described in docs/trajectories.md. Only `student` needs an HTTP client; the
rest imports nothing heavy, so that trainers, reward functions and the gateway all use the very same code.
"""
