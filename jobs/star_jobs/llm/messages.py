"""The chat message, apart from the client: trainers build prompts and have no HTTP client installed."""

from typing import Literal, TypedDict

Role = Literal["system", "user", "assistant"]


class ChatMessage(TypedDict):
    """One message of a chat, as every OpenAI-compatible API and every chat template takes it."""

    role: Role
    content: str
