"""What kopf is told to watch."""

import kopf

from star_operator.handlers.events import registered
from star_operator.kube.indexes import CACHED, CHILDREN


def test_all_that_is_cached_is_watched_and_of_what_others_have_only_ours() -> None:
    options = kopf.OperatorSettings()
    registry = registered(options)
    watched = {str(one) for one in registry._watching.get_all_selectors()}
    assert len(watched) == len(CACHED)
    filtered = dict(options.watching.label_selectors)
    assert len(filtered) == len(CHILDREN)
    assert set(filtered.values()) == {"app.kubernetes.io/managed-by=star-operator"}
