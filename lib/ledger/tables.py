"""The ledger's tables for a notebook (pandas Styler), and its numbers and verdicts in words."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from lib.ledger.claims import Claim, criterion

MARKS = {"stronger": "●+", "as published": "●", "weaker": "◐", "absent": "○", "reversed": "✕", "open": "?"}
LOOKS = {"reproduced": ("●", "#cfe8d5"), "partly": ("◐", "#fdf0c4"), "not reproduced": ("○", "#f6c9c0"),
         "not decided here": ("–", "#e6e6e6"), "holds": ("=", "#cfe8d5"), "fails": ("≠", "#f6c9c0"),
         "measured": ("~", "#dbe7f3"), "not run": ("·", "#ffffff")}  # fmt: skip
LEGEND = ("●+ stronger than published · ● as published · ◐ weaker · ○ absent · ✕ reversed · ? too uncertain, or not "
          "measured")  # fmt: skip


def criteria_table(claims: Iterable[Claim]) -> Styler:
    """Claim, published, and when it counts as reproduced."""
    rows = [
        {"claim": _statement(c), "published": _html(c.published), "counts as reproduced when": _html(criterion(c))}
        for c in claims
    ]
    return _styled(pd.DataFrame(rows), "criteria", "")


def verdict_table(claims: Iterable[Claim], found: Mapping[str, Mapping], profile: str) -> Styler:
    """Claim, published, ours ± interval, criterion, verdict (a sign as well as a colour) and later finding."""
    rows = []
    for claim in claims:
        one = found[claim.id]
        note = "; ".join(filter(None, [one["note"], *one["reasons"]]))
        us = [f"Departs: {claim.departs}"] if claim.departs else []
        us += [f"Is it us? {one['moved']}"] if one["moved"] else []
        rows.append({
            "claim": _statement(claim), "published": _html(claim.published),
            "ours": "<br>".join(map(_html, in_words(claim, one))) + "".join(f"<br><small>{_html(t)}</small>" for t in
                                                                           filter(None, [note, *us])),
            "criterion": _html(criterion(claim)), "verdict": in_sign(one), "later": _html(claim.later),
        })  # fmt: skip
    colour = lambda text: f"background-color: {LOOKS[text.partition(':')[0][2:]][1]}; color: #000000"
    caption = f"Profile {_html(profile)}. By setting: {LEGEND}."
    return _styled(pd.DataFrame(rows), "claims", caption).map(colour, subset=["verdict"])


def in_sign(record: Mapping) -> str:
    """The verdict with its sign and its one word, ``"◐ partly: weaker"``."""
    word = "" if record["word"] in ("", "open") or record["verdict"] in ("holds", "fails") else f": {record['word']}"
    return f"{LOOKS[record['verdict']][0]} {record['verdict']}{word}"


def in_words(claim: Claim, found: Mapping, *, judged_only: bool = False) -> list[str]:
    """What was found, a line a setting (the claim's first, then, if wanted, those not judged), with n on the last."""
    value, findings = found["value"], found.get("findings")
    if value is None:
        return ["–"]
    if not claim.settings:
        lines = [in_digits(found)]
    else:
        order = [s for s in claim.settings if s in value]
        order += [] if judged_only else [s for s in value if s not in claim.settings]
        lines = [f"{MARKS[findings[s]] if s in findings else '·'} {s}: {in_digits(found, s)}" for s in order]
    last = (lines or ["–"])[-1] + (f" (n = {found['n']:,})" if found.get("n") is not None else "")
    return [*lines[:-1], last]


def in_digits(found: Mapping, setting: str = "") -> str:
    """The number that a record has at a setting (none for a single number), and its interval; a dash for no number."""
    single = lambda by: (by or {}).get(setting) if isinstance(found["value"], Mapping) else None if setting else by
    value = single(found["value"])
    return "–" if value is None else number(value, single(found["interval"]))


def number(value: float, interval: Sequence[float] | None = None) -> str:
    """A number with the digits that its interval supports (three significant ones without).

    Example:
        >>> number(0.94371, (0.9421, 0.9453)), number(5.31, (4.1, 6.5)), number(3.14159e-9), number(4834.2)
        ('0.9437 [0.9421, 0.9453]', '5.3 [4.1, 6.5]', '3.14e-09', '4,834')
    """
    half = (interval[1] - interval[0]) / 2 if interval else 0.0
    if half > 0:
        places = min(6, max(0, -math.floor(math.log10(half / 3))))
        show = lambda x: f"{x:,.{places}f}"
    else:
        show = lambda x: f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"
    text = f"{show(value)} [{show(interval[0])}, {show(interval[1])}]" if interval else show(value)
    return text.replace("-", "−") if "e" not in text else text


def _html(text: str) -> str:
    return html.escape(text).replace("$", "&#36;")  # a notebook would read $…$ as mathematics


def _statement(claim: Claim) -> str:
    return f"<code>{_html(claim.id)}</code><br>{_html(claim.claim)}<br><small>{_html(claim.where)}</small>"


def _styled(frame: pd.DataFrame, name: str, caption: str) -> Styler:
    look = [
        {"selector": "td, th", "props": "text-align: left; vertical-align: top; font-size: 85%; white-space: normal"},
        {"selector": "td", "props": "max-width: 22em"},
        {"selector": "caption", "props": "caption-side: bottom; text-align: left; font-size: 85%"},
    ]
    left = lambda text: text and f'<div style="text-align: left">{text}</div>'  # stays where sheets are not trusted
    frame = frame.assign(**{column: frame[column].map(left) for column in frame if column != "verdict"})
    styled = frame.style.hide(axis="index").set_uuid(name).set_table_styles(look)
    return styled.set_caption(caption) if caption else styled
