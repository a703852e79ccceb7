"""What a promotion's commit and pull request say: for a reviewer in words and figures, for machines in trailers.

    Promote movielens-grpo to prod

    from  sha256:1111… (movielens-sft)
    to    sha256:2222… (movielens-grpo, made by GRPOJob/movielens-grpo)
    …

    Star-Promotion: <namespace>/<name>/<uid>
    Star-Digest: sha256:…

All text from outside is put on one line, so that none of it can be taken for a trailer.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from star_contracts.promotion import CheckpointFacts, Figure, PromotionSpec
from star_jobs.promote.edit import Standing

PROMOTION, TO, FROM = "Star-Promotion", "Star-Digest", "Star-From"
_TRAILER = re.compile(r"^([A-Za-z][A-Za-z-]*): (.+)$")
_SUBJECT = 72
"""Characters of a subject that are shown everywhere."""
_NOTHING = "-"


def subject(spec: PromotionSpec) -> str:
    """Return the first line, which is the pull request's title as well."""
    facts = spec.known(spec.digest)
    what = _line(facts.name) if facts and facts.name else short(spec.digest)
    where = _line(spec.environment) or spec.target.branch
    override = "OVERRIDE: promote" if spec.override else "Promote"
    text = f"{override} {what} to {where}"
    return text if len(text) <= _SUBJECT else text[: _SUBJECT - 1] + "…"


def commit_message(spec: PromotionSpec, standing: Standing) -> str:
    """Return the whole message of the commit."""
    blocks = ["\n".join(block) for block in _blocks(spec, standing)]
    return "\n\n".join([subject(spec), *filter(None, blocks), "\n".join(_trailers(spec, standing))]) + "\n"


def request_body(spec: PromotionSpec, standing: Standing) -> str:
    """Return the text of the pull request: the message as it is, where no Markdown can be read into it."""
    blocks = ["\n".join(block) for block in _blocks(spec, standing)]
    text = "\n\n".join([*filter(None, blocks), "\n".join(_trailers(spec, standing))])
    links = "".join(f"\n- [{_plain(link.title)}]({link.url})" for link in spec.links)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}\n{links}".rstrip() + "\n"


def trailers(message: str) -> Mapping[str, str]:
    """Return a commit's trailers: those in its last paragraph, where it is made of trailers alone."""
    last = message.rstrip().rpartition("\n\n")[2].splitlines()
    found = [_TRAILER.match(line) for line in last]
    return {match.group(1): match.group(2) for match in found if match} if last and all(found) else {}


def is_of(spec: PromotionSpec, message: str) -> bool:
    """Whether a commit is this promotion's. A squashed or merged pull request carries the trailers of its commit."""
    wanted = f"{PROMOTION}: {spec.promotion.trailer()}"
    paragraphs = message.replace("\r\n", "\n").split("\n\n")
    return any(wanted in paragraph.splitlines() for paragraph in paragraphs if _all_trailers(paragraph))


def short(digest: str) -> str:
    """Return a digest as people are shown it."""
    return digest.removeprefix("sha256:")[:12]


def _all_trailers(paragraph: str) -> bool:
    lines = paragraph.strip().splitlines()
    return bool(lines) and all(_TRAILER.match(line) for line in lines)


def _blocks(spec: PromotionSpec, standing: Standing) -> Iterator[Sequence[str]]:
    before, after = spec.known(standing.pinned()), spec.known(spec.digest)
    if spec.override is not None:
        yield (
            f"REQUIREMENTS WERE OVERRIDDEN by {_line(spec.override.user)}:",
            f"  {_line(spec.override.reason) or 'no reason given'}",
        )
    yield (
        f"from  {standing.pinned() or 'nothing that was pinned'}{_about(before)}",
        f"to    {spec.digest}{_about(after)}",
        f"uri   {spec.uri}",
    )
    if after is not None:
        yield tuple(_lineage(after))
    yield tuple(_figures(before, after))
    yield tuple(_gates(spec))
    if spec.approvals:
        approvals = (
            f"  {_line(each.user)}"
            + (f", {each.seen:%Y-%m-%d %H:%M} UTC" if each.seen else "")
            + (f": {_line(each.comment)}" if each.comment else "")
            for each in spec.approvals
        )
        yield ("Approved by", *approvals)
    if spec.links:
        yield ("Links", *(f"  {_line(link.title)}: {link.url}" for link in spec.links))


def _about(facts: CheckpointFacts | None) -> str:
    said = [_line(facts.name), f"made by {_line(facts.producer)}" if facts.producer else ""] if facts else []
    text = ", ".join(filter(None, said))
    return f" ({text})" if text else ""


def _lineage(facts: CheckpointFacts) -> Iterator[str]:
    if facts.inputs:
        yield "Made from"
        yield from (f"  {_line(role)}: {digest}" for role, digest in sorted(facts.inputs.items()))
    if facts.dataset is not None:
        age = f", {facts.data_age_days:.1f} days old" if facts.data_age_days is not None else ""
        yield f"Measured on data {facts.dataset}{age}"


def _figures(before: CheckpointFacts | None, after: CheckpointFacts | None) -> Iterator[str]:
    """Yield a table of the figures before and after, with their intervals."""
    old, new = (facts.metrics if facts else {} for facts in (before, after))
    rows = [(_line(name), _figure(old.get(name)), _figure(new.get(name))) for name in sorted({*old, *new})]
    if not rows:
        return
    if before is not None and after is not None and before.dataset != after.dataset:
        yield "Figures (before: on other data than after)"
    else:
        yield "Figures"
    rows = [("", "before", "after"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return _NOTHING
    interval = f" [{figure.low:.4g}, {figure.high:.4g}]" if figure.low is not None and figure.high is not None else ""
    return f"{figure.value:.4g}{interval}"


def _gates(spec: PromotionSpec) -> Iterator[str]:
    if not spec.gates:
        return
    yield "Requirements"
    for gate in spec.gates:
        said = f": {_line(gate.message)}" if gate.message else ""
        yield f"  {'met' if gate.met else 'NOT MET'}  {_line(gate.name)}{said}"


def _trailers(spec: PromotionSpec, standing: Standing) -> Iterator[str]:
    facts = spec.known(spec.digest)
    yield f"{PROMOTION}: {spec.promotion.trailer()}"
    yield f"{TO}: {spec.digest}"
    yield f"{FROM}: {standing.pinned() or 'none'}"
    if facts is not None and facts.name:
        yield f"Star-Checkpoint: {_line(facts.name)}"
    if spec.environment:
        yield f"Star-Environment: {_line(spec.environment)}"
    if facts is not None and facts.dataset is not None:
        yield f"Star-Data: {facts.dataset}"
    yield from (f"Star-Approved-By: {_line(each.user)}" for each in spec.approvals)
    if spec.override is not None:
        yield f"Star-Overridden-By: {_line(spec.override.user)}"
    yield from (f"Star-Report: {claim.report.digest}" for claim in spec.reports)


def _line(text: str) -> str:
    """Return a text on one line, without characters that steer a terminal or turn the reading order round."""
    shown = "".join(" " if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") else each for each in text)
    return " ".join(shown.split())


def _plain(text: str) -> str:
    return re.sub(r"([\\\[\]()<>*_`#])", r"\\\1", _line(text))
