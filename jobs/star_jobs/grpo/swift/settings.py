"""What the plug-in needs to know, passed through the engine's environment: an engine passes nothing else on."""

from collections.abc import Mapping
from pathlib import Path

from star_contracts.base import Model
from star_contracts.settings import Rewards, Variant

_NAME = "STAR_GRPO"


class PluginSettings(Model):
    """What the reward and the tool loop need."""

    rewards: Rewards
    variant: Variant
    items: str
    """Path of `items.jsonl`."""
    signals: str | None = None
    """Folder of the look-up store."""


def to_environment(rewards: Rewards, variant: Variant, items: Path, signals: Path | None) -> dict[str, str]:
    """Return the variables to set."""
    value = PluginSettings(
        rewards=rewards, variant=variant, items=str(items), signals=str(signals) if signals else None
    )
    return {_NAME: value.model_dump_json(by_alias=True)}


def from_environment(environment: Mapping[str, str]) -> PluginSettings:
    """Read them back; raises KeyError when they are not set."""
    return PluginSettings.model_validate_json(environment[_NAME])
