"""The claims as ``notebooks/claims.yaml`` states them, and each criterion in words. Written before the runs.

A claim has the fields below. ``side``, ``effect`` and ``threshold`` are one value, or one for each setting:

    id         dotted, unique; the prefix names the paper
    notebook   the notebook that must record it, 'NN'
    paper      short name of the paper, and ``where`` in it
    claim      what is claimed, and ``published`` what was found, in words
    rule       difference, trend, correlation, share, identity or cost (see ``lib.verdicts``)
    measure    what is recorded, with its unit
    side       claimed direction: 1, -1, or 0 = smaller than ``effect``
    effect     published size in that unit, or null
    settings   the settings that the paper names, in the order of the sweep; [] for a single number
    waits      why it cannot be decided yet, or ''
    later      what later work found, or ''
    threshold  optional: the value a difference is compared with (0), chance for a correlation (0) or a share (must be
               given), the allowed error of an identity (1e-6), the ratio of equal costs (1)
    sized      optional: 'paper' (default) where ``effect`` is printed there; 'study' where only curves or pictures
               are, and ``effect`` is the smallest size that we would call the claim
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from lib.verdicts import DIRECT, RULES, THRESHOLD

CLAIMS = Path(__file__).resolve().parents[1] / "notebooks" / "claims.yaml"
TEXTS = ("id", "notebook", "paper", "where", "claim", "published", "rule", "measure", "waits", "later", "sized")


@dataclass(frozen=True)
class Claim:
    """One claim; ``side``, ``effect`` and ``threshold`` by setting (``""`` where there are none)."""

    id: str
    notebook: str
    paper: str
    where: str
    claim: str
    published: str
    rule: str
    measure: str
    side: dict[str, int]
    effect: dict[str, float | None]
    settings: tuple[str, ...]
    waits: str
    later: str
    threshold: dict[str, float]
    sized: str = "paper"

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings, or ``("",)`` for a single number."""
        return self.settings or ("",)


def load_claims(path: str | Path | None = None) -> dict[str, Claim]:
    """All claims by id, in the order of the file (default ``notebooks/claims.yaml``).

    Raises:
        ValueError: naming the claim and the field, what was expected and what came.
    """
    path = Path(path or CLAIMS)
    entries = yaml.safe_load(path.read_text("utf8"))
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise ValueError(f"{path.name} must be a list of claims")
    claims = {}
    for entry in entries:
        claim = _claim(dict(entry))
        if claim.id in claims:
            raise ValueError(f"{claim.id}: id must be unique, it is there twice")
        claims[claim.id] = claim
    return claims


def _claim(entry: dict) -> Claim:
    name = entry.get("id", f"claim without id ({str(entry)[:60]}…)")

    def refuse(field, expected):
        raise ValueError(f"{name}: {field} must be {expected}, got {entry.get(field)!r}")

    entry.setdefault("sized", "paper")
    entry.setdefault("threshold", THRESHOLD.get(entry.get("rule"), 0.0) if entry.get("rule") != "share" else None)
    known = {field.name for field in fields(Claim)}
    if set(entry) != known:
        missing, unknown = sorted(known - set(entry)), sorted(map(str, set(entry) - known))
        raise ValueError(f"{name}: missing fields {missing}, unknown fields {unknown}; valid are {sorted(known)}")
    for field in TEXTS:
        if not isinstance(entry[field], str):
            refuse(field, "text (in quotes where YAML would read a number)")
    if not (len(entry["notebook"]) == 2 and entry["notebook"].isdigit()):
        refuse("notebook", "two digits in quotes, such as '04'")
    if entry["rule"] not in RULES:
        refuse("rule", "one of " + ", ".join(RULES))
    if entry["sized"] not in ("paper", "study"):
        refuse("sized", "'paper' or 'study'")
    settings = entry["settings"]
    if not isinstance(settings, list) or not all(isinstance(s, str) and s for s in settings):
        refuse("settings", "a list of texts (quote '1:4' and '20%')")
    if len(set(settings)) < len(settings):
        refuse("settings", "unique")
    if entry["rule"] == "trend" and len(settings) < 3 and set(settings) != set(DIRECT):
        refuse("settings", f"at least 3 in the order of the sweep, or {list(DIRECT)}, for a trend")
    keys = settings or [""]
    for field in ("side", "effect", "threshold"):
        given = entry[field] if isinstance(entry[field], Mapping) else dict.fromkeys(keys, entry[field])
        if set(given) != set(keys):
            refuse(field, f"one value, or one for each of {settings}")
        allowed = (int,) if field == "side" else (int, float, type(None)) if field == "effect" else (int, float)
        if not all(isinstance(v, allowed) and not isinstance(v, bool) for v in given.values()):
            refuse(field, "1, -1 or 0" if field == "side" else "a number (chance, for a share)")
        entry[field] = given
    for key in keys:
        side, effect, threshold = (entry[field][key] for field in ("side", "effect", "threshold"))
        if side not in (-1, 0, 1):
            refuse("side", "1, -1 or 0")
        if side == 0 and entry["rule"] != "identity" and not (effect and effect > 0):
            refuse("effect", "a margin above 0 where side is 0")
        if side and effect is not None and side * (effect - threshold) < 0:
            refuse("effect", f"on the claimed side ({side:+d}) of {threshold:g}")
    return Claim(**entry | {"settings": tuple(settings)})


def criterion(claim: Claim) -> str:
    """When the claim counts as reproduced, in words, from rule, measure, side, effect and settings."""
    side, effect, threshold = (_by_setting(claim, f) for f in ("side", "effect", "threshold"))
    many, first = len(claim.settings) > 1, claim.keys[0]
    among = _among(claim)
    if claim.rule == "identity":
        where = " at every one of " + ", ".join(claim.settings) if many else ""
        text = f"largest relative error below {claim.threshold[first]:g}, in float64{where}"
    elif set(claim.side.values()) == {0}:
        text = f"95% interval within ±{effect} of {threshold}{among}"
    elif claim.rule == "trend":
        way = "above" if claim.side[first] > 0 else "below"
        along = "" if set(claim.settings) == set(DIRECT) else f" along {', '.join(claim.settings)}"
        text = f"Spearman with the setting, and last minus first, both with 95% interval {way} 0{along}"
        text += f"; size at the ends {effect}{_whose(claim)}" if effect else ""
    elif claim.rule == "difference":
        text = f"95% interval {_way(side)} {threshold}{among}"
        text += f"; too narrow for {effect}{_whose(claim)} counts against it" if effect else ""
    elif claim.rule == "cost":
        text = f"ratio {_way(side)} {threshold}" + (f" that reaches {effect}{_whose(claim)}" if effect else "") + among
    else:
        text = f"95% interval {_way(side)} chance (null band, or {threshold})"
        text += f" that reaches {effect}{_whose(claim)}" if effect else ""
        text += among
    return f"{claim.measure}: {text}"


def _way(side: str) -> str:
    return {"1": "above", "-1": "below"}.get(side, f"on the claimed side ({side}) of")


def _whose(claim: Claim) -> str:
    return " (published)" if claim.sized == "paper" else " (size set by us)"


def _among(claim: Claim) -> str:
    settings = claim.settings
    if len(settings) < 2:
        return ""
    return f", in {math.ceil(2 * len(settings) / 3)} of {', '.join(settings)} and opposite in none"


def _by_setting(claim: Claim, field: str) -> str:
    values = {s: v for s, v in getattr(claim, field).items() if v is not None}
    if len(set(values.values())) < 2:
        return "".join(f"{v:g}" for v in list(values.values())[:1])
    return ", ".join(f"{v:+g} at {s}" if field == "side" else f"{v:g} at {s}" for s, v in values.items())
