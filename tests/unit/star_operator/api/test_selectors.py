"""Namespaces by their labels, as the API server's own selectors do it."""

from typing import Any

import pytest

from star_operator.api.selectors import NamespaceSelector, selects

LABELS = {"tier": "gold", "team": ""}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, True),
        ({"matchLabels": {"tier": "gold"}}, True),
        ({"matchLabels": {"tier": "gold", "team": "x"}}, False),
        ({"matchLabels": {"other": ""}}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold", "silver"]}]}, True),
        ({"matchExpressions": [{"key": "other", "operator": "In", "values": [""]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["gold"]}]}, False),
        ({"matchExpressions": [{"key": "other", "operator": "NotIn", "values": ["gold"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "other", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "other", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"tier": "gold"}, "matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_which_labels_fit(selector: dict[str, Any], fits: bool) -> None:
    assert selects(NamespaceSelector.model_validate(selector), LABELS) is fits
