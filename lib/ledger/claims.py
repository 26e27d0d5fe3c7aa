"""The claims as ``notebooks/claims.yaml`` states them, and each criterion in words. Written before the runs.

A claim has the fields below. ``side``, ``effect`` and ``threshold`` are one value, or one for each setting:

    id         dotted, unique; the prefix names the paper
    notebook   the notebook that must record it, 'NN'
    paper      short name of the paper, and ``where`` in it
    claim      what is claimed, and ``published`` what was found, in words
    rule       difference, as good as, trend, correlation, share, identity or cost (see ``lib.ledger.verdicts``)
    measure    what is recorded, with its unit
    side       claimed direction: 1, -1, or 0 = smaller than ``effect``
    effect     published size in that unit, or null
    settings   the settings that the paper names, in the order of the sweep; [] for a single number
    covers     what the interval must cover, of initializations, rows, test rows, architectures ([] for what has none)
    every      optional, true: the claim is of all its settings, each one
    departs    optional: where our setting departs from the published one
    waits      optional: why it cannot be decided yet
    later      optional: what later work found
    threshold  optional: the value a difference is compared with (0), chance for a correlation (0) or a share (must be
               given), the loss that is still "as good as" (must be given), the allowed error of an identity (1e-6),
               the ratio of equal costs (1)
    sized      optional: 'paper' (default) where ``effect`` is printed there; 'study' where only curves or pictures
               are, and ``effect`` is the smallest size that we would call the claim
    within     optional: the uncertainty that the paper prints for ``effect``; where it prints none we take a quarter of
               the way from the threshold to ``effect``
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import fastjsonschema
import yaml

from lib.ledger.verdicts import COVERS, DIRECT, RULES, RULES_VERSION, THRESHOLD

CLAIMS = Path(__file__).resolve().parents[2] / "notebooks" / "claims.yaml"
WEAKER = "; weaker where the whole interval falls short of the published value"  # a rule, so no part of a digest

_TEXT, _SIDE = {"type": "string"}, {"minimum": -1, "maximum": 1}
_OPTIONAL = {"waits": "", "later": "", "departs": "", "sized": "paper", "within": None, "every": False}
_TEXTS = ("id", "paper", "where", "claim", "published", "measure", "departs", "waits", "later")
_FIELDS = {
    **dict.fromkeys(_TEXTS, _TEXT),
    "notebook": {"type": "string", "pattern": r"^\d\d$"},
    "rule": {"enum": list(RULES)},
    "sized": {"enum": ["paper", "study"]},
    "every": {"type": "boolean"},
    "covers": {"type": "array", "items": {"enum": list(COVERS)}, "uniqueItems": True},
    "within": {"type": ["number", "null"], "exclusiveMinimum": 0},
    "settings": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True},
    "side": _SIDE | {"type": ["integer", "object"], "additionalProperties": _SIDE | {"type": "integer"}},
    "effect": {"type": ["number", "null", "object"], "additionalProperties": {"type": ["number", "null"]}},
    "threshold": {"type": ["number", "object"], "additionalProperties": {"type": "number"}},
}
_fits = fastjsonschema.compile({"properties": _FIELDS, "required": list(_FIELDS), "additionalProperties": False})


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
    covers: tuple[str, ...]
    threshold: dict[str, float]
    departs: str = ""
    waits: str = ""
    later: str = ""
    sized: str = "paper"
    within: float | None = None
    every: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings, or ``("",)`` for a single number."""
        return self.settings or ("",)

    @property
    def size(self) -> dict[str, float | None]:
        """The smallest size that counts, by setting: None where any does."""
        return {s: self._size(effect, self.threshold[s], self.side[s]) for s, effect in self.effect.items()}

    def _size(self, effect: float | None, threshold: float, side: int) -> float | None:
        if effect is None or self.rule in ("as good as", "identity"):
            return None
        if self.sized == "study" or side == 0:
            return effect
        return effect - (side * self.within if self.within else (effect - threshold) / 4)

    @property
    def published_effect(self) -> dict[str, float | None]:
        """What an interval must pass to be stronger than published: None where the paper prints nothing."""
        printed = self.sized == "paper" or self.rule == "as good as"
        return {s: effect if printed and self.side[s] else None for s, effect in self.effect.items()}


def load_claims(path: str | Path | None = None) -> dict[str, Claim]:
    """All claims by id, in the order of the file (default ``notebooks/claims.yaml``).

    Raises: ValueError naming the claim and the field, what was expected and what came.
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
    name, entry = entry.get("id", f"claim without id ({str(entry)[:60]}…)"), _OPTIONAL | entry
    if entry.get("rule") not in ("share", "as good as"):
        entry.setdefault("threshold", THRESHOLD.get(entry.get("rule"), 0.0))
    if entry.get("rule") in ("identity", "cost"):
        entry.setdefault("covers", [])
    try:
        _fits(entry)
    except fastjsonschema.JsonSchemaValueException as error:
        said, got = error.message.removeprefix("data").lstrip(" ."), f", got {error.value!r}" * (len(error.path) > 1)
        raise ValueError(f"{name}: {said}{got}; see the top of lib/ledger/claims.py") from None
    settings, keys = entry["settings"], entry["settings"] or [""]
    if entry["rule"] == "trend" and len(settings) < 3 and set(settings) != set(DIRECT):
        expected = f"at least 3 in the order of the sweep, or {list(DIRECT)}, for a trend"
        raise ValueError(f"{name}: settings must be {expected}, got {settings}")
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
    return Claim(**entry | {"settings": tuple(settings), "covers": tuple(entry["covers"])})


def criterion(claim: Claim) -> str:
    """When the claim counts as reproduced (or holds, or what of a cost is looked at), in words."""
    sides, threshold = set(claim.side.values()), _listed(claim.threshold)
    size, many = _listed(claim.size), len(claim.settings)
    way = f"on the claimed side ({_listed(claim.side, '+d')}) of"
    way = {1: "above", -1: "below"}.get(*sides) if len(sides) == 1 else way
    if claim.rule == "identity":
        where = f" for each of {'; '.join(claim.settings)}" if many else ""
        return f"{claim.measure}: largest relative error below {claim.threshold[claim.keys[0]]:g} in float64{where}"
    if sides == {0}:
        text = f"95% interval within ±{size} of {threshold}"
    elif claim.rule == "trend":
        along = "" if set(claim.settings) == set(DIRECT) else f" along {'; '.join(claim.settings)}"
        text, many = f"Spearman with the setting{along}, and last minus first, both with 95% interval {way} 0", 1
    elif claim.rule == "cost":
        text = f"ratio {way} {threshold}"
    else:
        chance = f"chance (null band, or {threshold})" if claim.rule in ("correlation", "share") else threshold
        text = f"95% interval {way} {chance}"
    if size and sides != {0}:
        whose = f"{_listed(claim.effect)} published" if len({*claim.effect.values()} - {None}) == 1 else "published"
        whose = "size set by us" if claim.sized == "study" else whose + f", less {claim.within or 'a quarter'}{WEAKER}"
        text += f" and value at {size} or beyond ({whose})"
    if many > 1:
        names = claim.settings if many <= 5 else (claim.settings[0], "…", claim.settings[-1])
        names = "" if len(set(claim.size.values())) > 1 else f" ({'; '.join(names)})"  # else they stand at the sizes
        share = f"every one of {many}" if claim.every else f"at least {math.ceil(2 * many / 3)} of {many}"
        text += f", in {share} settings{names}" + ("" if claim.every else ", reversed in none")
    over = f"; interval over {', '.join(claim.covers)}" if claim.covers else ""
    return f"{claim.measure}: {text}{over}"


def digest(claim: Claim) -> str:
    """Ten hexadecimal digits of the criterion and of the rules that judge by it."""
    return sha256(f"{RULES_VERSION} {claim.settings} {criterion(claim)}".replace(WEAKER, "").encode()).hexdigest()[:10]


def _listed(by: Mapping[str, float | None], form: str = "g") -> str:
    """The values of a field: one where all settings share it, else each with its setting."""
    values = {s: v for s, v in by.items() if v is not None}
    show = lambda v: f"{v:{form}}" if "e" in f"{v:{form}}" else f"{v:{form}}".replace("-", "−")
    if len(set(values.values())) < 2:
        return "".join(map(show, list(values.values())[:1]))
    return "; ".join(f"{show(v)} ({s})" for s, v in values.items())
