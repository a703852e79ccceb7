"""The STAR operator: level-triggered reconcilers for the kinds of star.recsys.dev."""
