"""How a verdict is reached: one rule a kind of claim, fixed before any run. Pure functions of numbers.

First each setting that the paper names (a fraction, a noise level, an architecture) gets a *finding*:

    stronger      as claimed, and the interval lies wholly beyond the published size
    as published  the interval lies wholly on the claimed side, and the value reaches the smallest size that counts
    weaker        on the claimed side, with the value below that size or the whole interval short of the published one
    absent        round zero (or chance), and too narrow to hold that size
    reversed      wholly on the other side
    open          round zero and wide enough to hold the size, or not measured

The first two are *shown*. Settings that we add stand beside these and neither rescue nor turn the verdict. Then
``combine`` makes one verdict of the findings, and ``judge`` asks two things more. An interval must cover the sources of
variation that the claim names (initializations, rows, test rows, architectures), and a run that moves the most
suspicious of our departures towards the published setting must say the same. Short of either, a claim that is shown is
*partly* reproduced; one that fails accuses a paper, and is *not decided here*, as it is without such a run.
Identities and theorems *hold* or *fail*, costs are *measured*; neither counts as a reproduction.

``side`` is the claimed direction: +1, −1, or 0 for a claim that something is *small*: then ``size`` is the margin
within which it must lie. Intervals are ``(low, high)``, 95%.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata

Interval = tuple[float, float]
RULES_VERSION = 3  # goes up where the same numbers may come to another verdict
RULES = ("difference", "as good as", "trend", "correlation", "share", "identity", "cost")
FINDINGS = ("stronger", "as published", "weaker", "absent", "reversed", "open")
SHOWN = FINDINGS[:2]
VERDICTS = ("reproduced", "partly", "not reproduced", "not decided here", "holds", "fails", "measured")
COVERS = ("initializations", "rows", "test rows", "architectures")
THRESHOLD = {"identity": 1e-6, "cost": 1.0}  # of the other rules: 0 (a share and an "as good as" say their own)
DIRECT = ("trend", "ends")  # settings of a trend whose Spearman and end-to-end difference were measured themselves


class Judgement(NamedTuple):
    """``word`` is the finding of most settings, the worse of two that are as many; ``reasons`` a reader must know."""

    verdict: str
    word: str
    findings: dict[str, str]
    reasons: tuple[str, ...]


def combine(findings: Sequence[str], *, every: bool = False) -> str:
    """One verdict from the findings of all settings that the paper names (those not measured are ``open``).

    1. *reproduced*, if at least two thirds are shown and none is reversed;
    2. else *partly*, if at least a third are shown or weaker;
    3. else *not reproduced*, if at least two thirds are absent or reversed;
    4. else *not decided here*.

    A claim of ``every`` setting is *reproduced* if all are shown, *not reproduced* if any is absent or reversed, else
    *not decided here* while any is open, else *partly*.

    Example:
        >>> combine(["as published", "stronger", "open"]), combine(["weaker", "absent", "absent"])
        ('reproduced', 'partly')
        >>> combine(["as published", "stronger", "reversed"]), combine(["weaker", "absent"], every=True)
        ('partly', 'not reproduced')
    """
    if not findings or set(findings) - set(FINDINGS):
        raise ValueError(f"findings must be some of {', '.join(FINDINGS)}, got {list(findings)}")
    count = lambda *names: sum(finding in names for finding in findings)
    if every:
        if count("absent", "reversed"):
            return "not reproduced"
        shown = count(*SHOWN) == len(findings)
        return "reproduced" if shown else "not decided here" if count("open") else "partly"
    if 3 * count(*SHOWN) >= 2 * len(findings) and not count("reversed"):
        return "reproduced"
    if 3 * count(*SHOWN, "weaker") >= len(findings):
        return "partly"
    return "not reproduced" if 3 * count("absent", "reversed") >= 2 * len(findings) else "not decided here"


def qualify(verdict: str, lacks: Sequence[str], asked: bool | None, reached: bool | None) -> tuple[str, str]:
    """What ``combine`` found, less what the interval ``lacks`` and what "is it us?" left open, and the reason."""
    less = {"reproduced": "partly", "not reproduced": "not decided here"}.get(verdict, verdict)
    if less != verdict and reached is (less != "partly"):
        return less, f"the run that moved our setting {'came to' if reached else 'is not clearly on'} the claimed side"
    if lacks and (verdict == "reproduced" or (less != verdict and asked is not None)):
        return less, f"the interval leaves out {' and '.join(lacks)}"
    if verdict == "not reproduced" and asked is False:
        return less, "no run has moved our setting towards the published one yet"
    return verdict, ""


def find(
    value: float, interval: Interval, *, side: int, size: float | None, effect: float | None = None,
    band: Interval = (0.0, 0.0),
) -> str:  # fmt: skip
    """The finding on a difference, a correlation, a share, an AUROC or a ratio.

    ``band`` is where chance puts it, ``(t, t)`` for a plain threshold t. Beyond the band on the other side it is
    *reversed*. Beyond it on the claimed side it is *weaker* where the value falls short of ``size``, the smallest that
    counts, or the whole interval of ``effect``, the published one; *stronger* where the whole interval lies beyond
    ``effect``; else *as published*. Across an edge of the band it is *absent* where the interval ends short of
    ``size``, else *open*. ``side`` 0: *as published* wholly within ``size`` of the band's middle, *reversed* wholly
    outside, else *open*.

    "As good as" is this rule with the allowed loss as band and no ``size``.

    Example:
        >>> [find(v, (v - 0.1, v + 0.1), side=1, size=0.3, effect=0.4) for v in (0.6, 0.35, 0.2, 0.05, -0.3)]
        ['stronger', 'as published', 'weaker', 'absent', 'reversed']
    """
    if side == 0:
        if size is None or size <= 0:
            raise ValueError(f"size must be a margin above 0 where side is 0, got {size}")
        low, high = (end - sum(band) / 2 for end in interval)
        return "as published" if -size < low and high < size else "reversed" if low > size or high < -size else "open"
    (low, high), (below, above) = _turned(interval, side), _turned(band, side)
    if high < below:
        return "reversed"
    if low > above:
        printed = -math.inf if effect is None else side * effect
        if size is not None and (side * value < side * size or low < high < printed):
            return "weaker"
        return "stronger" if low > printed > -math.inf else "as published"
    return "absent" if size is not None and high < side * size else "open"


def trend(
    rho: Interval, change: float, ends: Interval, *, side: int, size: float | None, effect: float | None = None
) -> str:
    """The finding on "it grows along the sweep": from the interval of Spearman(value, setting), and from ``change``,
    last minus first, and its interval ``ends``.

    As ``find`` has it for the ends, but at most *weaker* where the order is not clear of 0. Where it lies wholly on the
    other side, *reversed*, or *absent* if the ends point the claimed way. Side 0, a claim of flatness: of the ends.

    Example:
        >>> [trend(rho, 0.2, (0.1, 0.3), side=1, size=0.15) for rho in ((0.8, 1.0), (-0.2, 0.9))]
        ['as published', 'weaker']
    """
    at_ends = find(change, ends, side=side, size=size, effect=effect)
    if side == 0:
        return at_ends
    order = find(sum(rho) / 2, rho, side=side, size=None)
    if "reversed" in (at_ends, order):
        return "absent" if at_ends != "reversed" and side * change > 0 else "reversed"
    return "weaker" if at_ends in SHOWN and order == "open" else at_ends


def sweep(values: Sequence[float], intervals: Sequence[Interval]) -> tuple[float, Interval, Interval]:
    """Spearman of value against position in the sweep, its interval, and the interval of last minus first.

    Each value is taken as normal with the spread of its interval, apart from the others (which is cautious where they
    share seeds); 4,000 draws, always the same.

    Raises: ValueError with fewer than three settings.

    Example:
        >>> sweep([1.0, 2.0, 3.0], [(0.9, 1.1), (1.9, 2.1), (2.9, 3.1)])[:2]
        (1.0, (1.0, 1.0))
    """
    if len(values) < 3:
        raise ValueError(f"a trend needs at least 3 settings, got {len(values)}")
    values, bounds = np.asarray(values, float), np.asarray(intervals, float)
    half = (bounds[:, 1] - bounds[:, 0]) / 2
    noise = np.random.default_rng(0).standard_normal((4000, len(values))) * half / norm.ppf(0.975)
    low, high = np.quantile(_rank_correlation(values + noise), [0.025, 0.975])
    change, wide = values[-1] - values[0], math.hypot(half[0], half[-1])
    at_values = float(_rank_correlation(values[None])[0])
    return at_values, (float(low), float(high)), (float(change - wide), float(change + wide))


def judge(
    rule: str, value: Mapping[str, float | None], interval: Mapping[str, Interval],
    null: Mapping[str, Interval] | None = None, *, settings: Sequence[str], side: Mapping[str, int],
    size: Mapping[str, float | None], effect: Mapping[str, float | None], threshold: Mapping[str, float],
    every: bool = False, lacks: Sequence[str] = (), asked: bool | None = True, reached: bool | None = None,
) -> Judgement:  # fmt: skip
    """The judgement of a claim; all mappings are by setting.

    A trend has one finding, for all its settings: from those named ``trend`` and ``ends`` where these are its
    settings, else from ``sweep`` in the order of ``settings``.

    Args:
        null: band of chance, where it is not the threshold.
        size: the smallest size that counts; ``effect`` the published one (None where none was, or where ours counts).
        every: whether the claim is of all its settings.
        lacks: what the interval should cover and does not.
        asked: whether a run asked "is it us?", None where a failure accuses no paper.
        reached: whether that run was clearly on the claimed side, None where nobody says.
    """
    there = [s for s in settings if value.get(s) is not None]
    if rule == "trend":
        findings = dict.fromkeys(settings, _trend(value, interval, settings, side, size, effect, there))
    else:
        findings = dict.fromkeys(settings, "open")
        for s in there:
            if rule == "identity":
                findings[s] = "as published" if 0 <= value[s] < threshold[s] else "reversed"
                continue
            band = (null or {}).get(s, (threshold[s], threshold[s]))
            ends = interval[s] if rule != "cost" else interval.get(s, (value[s], value[s]))
            findings[s] = find(value[s], ends, side=side[s], size=size[s], effect=effect[s], band=band)
    seen = [*findings.values()][: 1 if rule == "trend" else None]
    verdict, reasons = combine(seen, every=every), []
    counted = {"not reproduced": ("absent", "reversed"), "reproduced": SHOWN}.get(verdict, FINDINGS)
    word = max(counted, key=lambda name: (seen.count(name), FINDINGS.index(name)))
    if rule == "cost":
        verdict = "measured" if there else "not decided here"
    elif rule == "identity":
        verdict = "fails" if "reversed" in seen else "not decided here" if "open" in seen else "holds"
    else:
        verdict, reason = qualify(verdict, lacks, asked, reached)
        reasons += [reason] if reason else []
    if verdict in ("partly", "measured") and (turned := [s for s in settings if s and findings[s] == "reversed"]):
        reasons.append(f"reversed at {'; '.join(turned)}")
    return Judgement(verdict, word, findings, tuple(reasons))


def runs_needed(interval: Interval, size: float, chance: float) -> float:
    """How many times as many runs would decide an open setting: the half-width must fall to half of |size − chance|.

    Example:
        >>> runs_needed((-1.0, 1.0), size=0.5, chance=0.0)
        16.0
    """
    gap = abs(size - chance)
    return math.inf if gap == 0 else ((interval[1] - interval[0]) / gap) ** 2


def _trend(value, interval, settings, side, size, effect, there) -> str:
    sized = {"side": side[settings[0]], "size": size[settings[-1]], "effect": effect[settings[-1]]}
    if set(settings) == set(DIRECT):
        both = set(there) == set(DIRECT)
        return trend(interval["trend"], value["ends"], interval["ends"], **sized) if both else "open"
    if len(there) < 3:
        return "open"
    _, rho, ends = sweep([value[s] for s in there], [interval[s] for s in there])
    return trend(rho, value[there[-1]] - value[there[0]], ends, **sized)


def _turned(interval: Interval, side: int) -> Interval:
    low, high = sorted(side * end for end in interval)
    return low, high


def _rank_correlation(rows: np.ndarray) -> np.ndarray:
    """Spearman of each row with 0, 1, 2, …; 0 where a row is constant."""
    a = rankdata(rows, axis=1) - (rows.shape[1] + 1) / 2
    b = np.arange(rows.shape[1]) - (rows.shape[1] - 1) / 2
    scale = np.sqrt((a * a).sum(1) * (b * b).sum())
    return np.divide(a @ b, scale, out=np.zeros(len(a)), where=scale > 0)
