"""The claims as ``notebooks/claims.yaml`` states them, and each criterion in words. Written before the runs.

A claim has the fields below. ``side``, ``effect`` and ``threshold`` are one value, or one for each setting:

    id         dotted, unique; the prefix names the paper
    notebook   the notebook that must record it, 'NN'
    paper      short name of the paper, and ``where`` in it
    claim      what is claimed, and ``published`` what was found, in words
    rule       difference, trend, correlation, share, identity or cost (see ``lib.ledger.verdicts``)
    measure    what is recorded, with its unit
    side       claimed direction: 1, -1, or 0 = smaller than ``effect``
    effect     published size in that unit, or null
    settings   the settings that the paper names, in the order of the sweep; [] for a single number
    waits      optional: why it cannot be decided yet
    later      optional: what later work found
    threshold  optional: the value a difference is compared with (0), chance for a correlation (0) or a share (must be
               given), the allowed error of an identity (1e-6), the ratio of equal costs (1)
    sized      optional: 'paper' (default) where ``effect`` is printed there; 'study' where only curves or pictures
               are, and ``effect`` is the smallest size that we would call the claim
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import yaml

from lib.ledger.verdicts import DIRECT, RULES, THRESHOLD

CLAIMS = Path(__file__).resolve().parents[2] / "notebooks" / "claims.yaml"

_TEXT, _SIDE = {"type": "string"}, {"minimum": -1, "maximum": 1}
_OPTIONAL = {"waits": "", "later": "", "sized": "paper"}
_FIELDS = {
    **dict.fromkeys(("id", "paper", "where", "claim", "published", "measure", "waits", "later"), _TEXT),
    "notebook": {"type": "string", "pattern": r"^\d\d$"},
    "rule": {"enum": list(RULES)},
    "sized": {"enum": ["paper", "study"]},
    "settings": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True},
    "side": _SIDE | {"type": ["integer", "object"], "additionalProperties": _SIDE | {"type": "integer"}},
    "effect": {"type": ["number", "null", "object"], "additionalProperties": {"type": ["number", "null"]}},
    "threshold": {"type": ["number", "object"], "additionalProperties": {"type": "number"}},
}
SCHEMA = {"type": "object", "properties": _FIELDS, "required": list(_FIELDS), "additionalProperties": False}


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
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
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
    entry = _OPTIONAL | entry
    if entry.get("rule") != "share":
        entry.setdefault("threshold", THRESHOLD.get(entry.get("rule"), 0.0))
    for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(entry):
        field = " at ".join(map(str, error.path)) or "fields"
        raise ValueError(f"{name}: {field}: {error.message}; see the top of lib/ledger/claims.py")
    settings = entry["settings"]
    if entry["rule"] == "trend" and len(settings) < 3 and set(settings) != set(DIRECT):
        expected = f"at least 3 in the order of the sweep, or {list(DIRECT)}, for a trend"
        raise ValueError(f"{name}: settings must be {expected}, got {settings}")
    keys = settings or [""]
    for field in ("side", "effect", "threshold"):
        given = entry[field] if isinstance(entry[field], Mapping) else dict.fromkeys(keys, entry[field])
        if set(given) != set(keys):
            raise ValueError(f"{name}: {field} must be one value, or one for each of {settings}, got {given}")
        entry[field] = given
    for key in keys:
        side, effect, threshold = (entry[field][key] for field in ("side", "effect", "threshold"))
        if side == 0 and entry["rule"] != "identity" and not (effect and effect > 0):
            raise ValueError(f"{name}: effect must be a margin above 0 where side is 0, got {effect}")
        if side and effect is not None and side * (effect - threshold) < 0:
            raise ValueError(f"{name}: effect must be on the claimed side ({side:+d}) of {threshold:g}, got {effect}")
    return Claim(**entry | {"settings": tuple(settings)})


def criterion(claim: Claim) -> str:
    """When the claim counts as reproduced, in words, from rule, measure, side, effect and settings."""
    sides, threshold, size = set(claim.side.values()), _listed(claim, "threshold"), _listed(claim, "effect")
    way = (
        {1: "above", -1: "below"}.get(*sides)
        if len(sides) == 1
        else f"on the claimed side ({_listed(claim, 'side')}) of"
    )
    whose = "published" if claim.sized == "paper" else "size set by us"
    if claim.rule == "identity":
        where = f" for each of {'; '.join(claim.settings)}" if claim.settings else ""
        allowed = claim.threshold[claim.keys[0]]
        return f"{claim.measure}: largest relative error below {allowed:g} in float64{where}"
    if sides == {0}:
        text = f"95% interval within ±{size} of {threshold}"
    elif claim.rule == "trend":
        along = "" if set(claim.settings) == set(DIRECT) else f" along {'; '.join(claim.settings)}"
        text = f"Spearman with the setting{along}, and last minus first, both with 95% interval {way} 0"
        return f"{claim.measure}: {text}" + (f"; {whose} at the ends: {size}" if size else "")
    elif claim.rule == "difference":
        text = f"95% interval {way} {threshold}"
    elif claim.rule == "cost":
        text = f"ratio {way} {threshold}" + (" that reaches the size" if size else "")
    else:
        text = f"95% interval {way} chance (null band, or {threshold})" + (" that reaches the size" if size else "")
    if (many := len(claim.settings)) > 1:
        names = claim.settings if many <= 5 else (claim.settings[0], "…", claim.settings[-1])
        names = "" if len(set(claim.effect.values())) > 1 else f" ({'; '.join(names)})"  # else they stand at the sizes
        text += f" in at least {math.ceil(2 * many / 3)} of {many} settings{names}, opposite in none"
    if size and sides != {0}:
        text += f"; {whose}: {size}"
        if claim.rule == "difference":
            text += f" (an interval that holds {threshold} and not this counts against)"
    return f"{claim.measure}: {text}"


def _listed(claim: Claim, field: str) -> str:
    """The values of a field: one where all settings share it, else each with its setting."""
    values = {s: v for s, v in getattr(claim, field).items() if v is not None}
    show = lambda v: (f"{v:+d}" if field == "side" else f"{v:g}").replace("-", "−" if "e" not in f"{v:g}" else "-")
    if len(set(values.values())) < 2:
        return "".join(map(show, list(values.values())[:1]))
    return "; ".join(f"{show(v)} ({s})" for s, v in values.items())
