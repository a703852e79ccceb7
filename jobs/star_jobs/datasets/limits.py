"""What counts as plausible, by the same rules for all formats: one table of limits.

A value outside its limits is taken nevertheless, counted under the name of its `Doubt` in stats.json and told as a
warning on the RecDataset. Where too large a share of a file is in doubt, the file is not what it is taken for (another
unit, another column, another encoding), and the source is refused: `RULES` says for which doubts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MAX_IMPLAUSIBLE = 0.2
"""Share of a file's lines that may be in doubt for one reason, unless the user sets another."""

EARLIEST = 315_532_800
"""1980-01-01 in Unix seconds. Milliseconds that are really seconds lie in 1970."""
LATEST = 4_102_444_800
"""2100-01-01 in Unix seconds. Seconds that are really milliseconds lie many thousand years later."""
MAX_TIME = 1 << 40
"""Seconds either side of 1970 that are still taken for a time (34,000 years)."""

HIGHEST_RATING = 100.0
"""Scales end at 5, 10 or 100."""
MAX_RATING = 1e6
"""What is larger is no rating at all, and would be infinite among 32-bit numbers soon."""

MAX_ID_CHARS = 1000
TITLE_CHARS = 1000
"""Of a title kept."""
MAX_DEPTH = 500
"""Brackets of JSON within each other. Python's parser gives up at about twice as many."""
MAX_CANDIDATES = 1000
"""Of a task that the source brings, as of those that are made (`tasks.candidates`)."""
MAX_TASK_BYTES = 1 << 20
"""Of a task file. A thousand ids take some ten thousand."""


class Doubt(StrEnum):
    """Why something is taken with a warning; the value is its name in stats.json and among the metrics."""

    IMPLAUSIBLE_TIME = "implausibleTime"
    IMPLAUSIBLE_RATING = "implausibleRating"
    NO_RATING = "noRating"
    """A line without the documented column of the rating."""
    MISSING_COLUMN = "missingColumn"
    """A documented column that no line has."""
    NOT_UTF8 = "notUtf8"
    OWN_CANDIDATE = "ownCandidate"
    """A task of the source with a negative that its user has taken."""
    UNTAKEN_CANDIDATE = "untakenCandidate"
    """A task of the source with a negative that nobody ever took."""
    NO_HISTORY = "noHistory"
    """A task of the source whose user has no interaction before it."""


@dataclass(frozen=True)
class Rule:
    """What is done about a doubt."""

    remedy: str
    """What a person can do about it."""
    refused: bool = True
    """Whether too many of them refuse the source."""
    spared: float = 0.0
    """Share up to which they never do, however low the user's limit is."""


RULES: Mapping[Doubt, Rule] = {
    Doubt.IMPLAUSIBLE_TIME: Rule("check the unit of the time column (docs/datasets.md has each format's)"),
    Doubt.IMPLAUSIBLE_RATING: Rule("check the column of the ratings"),
    Doubt.NO_RATING: Rule("name the column of the ratings as documented (stars)"),
    Doubt.MISSING_COLUMN: Rule("name the columns as documented", refused=False),
    Doubt.NOT_UTF8: Rule("convert the file to UTF-8 (iconv -f ... -t UTF-8)"),
    Doubt.OWN_CANDIDATE: Rule("draw other candidates: a user is asked to rank what was taken already", spared=0.5),
    Doubt.UNTAKEN_CANDIDATE: Rule("know that popularity alone tells such candidates from the answer", refused=False),
    Doubt.NO_HISTORY: Rule("know that such a task tells nothing of its user", refused=False),
}
