"""How a verdict is reached: one rule a kind of claim, fixed before any run. Pure functions of numbers.

First each setting of a claim (a fraction, a noise level, an architecture) gets a *finding*:

    shown      as claimed
    weaker     the direction holds, the published size does not
    absent     not there, and we looked closely enough to say so
    opposite   the other way round
    open       too uncertain to say, or not measured

by the rule of its kind (``difference``, ``trend``, ``correlation`` for correlations and shares, ``identity``,
``cost``); then ``combine`` makes one verdict of them. ``side`` is the claimed direction: +1, −1, or 0 for a claim that
something is *small*: then ``effect`` is the margin within which it must lie. ``effect`` is the published size, in the
unit of the value, None where there is none. Intervals are ``(low, high)``, 95%.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import norm, rankdata

Interval = tuple[float, float]
RULES = ("difference", "trend", "correlation", "share", "identity", "cost")
FINDINGS = ("shown", "weaker", "absent", "opposite", "open")
VERDICTS = ("reproduced", "partly", "not reproduced", "not decided here")
THRESHOLD = {"identity": 1e-6, "cost": 1.0}  # of the other rules: 0 (a share says its own)
DIRECT = ("trend", "ends")  # settings of a trend whose Spearman and end-to-end difference were measured themselves


def combine(findings: Sequence[str]) -> str:
    """One verdict from the findings of all settings that the claim names (those not measured are ``open``).

    1. *not reproduced*, if any setting is opposite;
    2. else *reproduced*, if at least two thirds are shown;
    3. else *partly*, if any is shown or weaker;
    4. else *not reproduced*, if at least two thirds are absent;
    5. else *not decided here*.

    Example:
        >>> combine(["shown", "shown", "open"]), combine(["shown", "absent"]), combine(["shown", "shown", "opposite"])
        ('reproduced', 'partly', 'not reproduced')
    """
    if not findings or set(findings) - set(FINDINGS):
        raise ValueError(f"findings must be some of {', '.join(FINDINGS)}, got {list(findings)}")
    if "opposite" in findings:
        return "not reproduced"
    if 3 * findings.count("shown") >= 2 * len(findings):
        return "reproduced"
    if "shown" in findings or "weaker" in findings:
        return "partly"
    return "not reproduced" if 3 * findings.count("absent") >= 2 * len(findings) else "not decided here"


def difference(interval: Interval, *, side: int, effect: float | None, threshold: float = 0.0) -> str:
    """ "A beats B": where the interval of the difference lies.

    ``side`` ±1: *shown*, wholly on the claimed side of ``threshold``; *opposite*, wholly on the other; else (round
    the threshold) *absent* if it is too narrow to hold ``effect``, *open* if it holds it or no size was published.
    ``side`` 0: *shown*, wholly within ``threshold ± effect``; *opposite*, wholly outside; else *open*.

    Example:
        >>> difference((0.2, 0.6), side=1, effect=0.5), difference((-0.1, 0.1), side=1, effect=0.5)
        ('shown', 'absent')
    """
    if side == 0:
        return _small(interval, effect, threshold)
    low, high = _turned(interval, side)
    threshold = side * threshold
    if low > threshold:
        return "shown"
    if high < threshold:
        return "opposite"
    return "absent" if effect is not None and high < side * effect else "open"


def trend(rho: Interval, ends: Interval, *, side: int, effect: float | None) -> str:
    """ "It grows along the sweep": from the intervals of Spearman(effect, setting) and of last minus first.

    *opposite*, if either lies wholly on the other side of 0; *shown*, if both lie wholly on the claimed side;
    *weaker*, if only the ends do; else *absent* if the ends' interval is too narrow to hold ``effect``, the published
    difference between the ends, else *open*. Side 0, a claim of flatness: the ends judged as a difference of side 0.

    Example:
        >>> trend((0.8, 1.0), (0.1, 0.3), side=1, effect=0.2), trend((-0.2, 0.9), (0.1, 0.3), side=1, effect=0.2)
        ('shown', 'weaker')
    """
    if side == 0:
        return _small(ends, effect, 0.0)
    change = difference(ends, side=side, effect=effect)
    order = difference(rho, side=side, effect=None)
    if "opposite" in (change, order):
        return "opposite"
    return change if change != "shown" or order == "shown" else "weaker"


def sweep(values: Sequence[float], intervals: Sequence[Interval]) -> tuple[float, Interval, Interval]:
    """Spearman of value against position in the sweep, its interval, and the interval of last minus first.

    Each value is taken as normal with the spread of its interval, apart from the others (which is cautious where they
    share seeds); 4,000 draws, always the same.

    Raises:
        ValueError: with fewer than three settings.

    Example:
        >>> sweep([1.0, 2.0, 3.0], [(0.9, 1.1), (1.9, 2.1), (2.9, 3.1)])[:2]
        (1.0, (1.0, 1.0))
    """
    if len(values) < 3:
        raise ValueError(f"a trend needs at least 3 settings, got {len(values)}")
    values, bounds = np.asarray(values, float), np.asarray(intervals, float)
    half = (bounds[:, 1] - bounds[:, 0]) / 2
    noise = np.random.default_rng(0).standard_normal((4000, len(values))) * half / norm.ppf(0.975)
    rho = _rank_correlation(values + noise)
    change, wide = values[-1] - values[0], math.hypot(half[0], half[-1])
    low, high = np.quantile(rho, [0.025, 0.975])
    at_values = float(_rank_correlation(values[None])[0])
    return at_values, (float(low), float(high)), (float(change - wide), float(change + wide))


def correlation(value: float, interval: Interval, *, side: int, effect: float | None, null: Interval) -> str:
    """A correlation, a share or an AUROC, against the published one and the band of chance.

    ``side`` ±1, with ``null`` the band in which chance puts it: *opposite*, if the interval lies wholly beyond the
    band on the other side. If it lies wholly beyond it on the claimed side: *shown*, where it reaches the published
    ``effect`` or passes it (or none was published), else *weaker*. If it overlaps the band: *absent*, where it lies
    wholly within it, or falls short of ``effect`` with the value itself within the band; else *open*.
    ``side`` 0: *shown*, wholly within ``effect`` of the band's middle; *opposite*, wholly outside; else *open*.

    Example:
        >>> [correlation(0.3, (0.2, 0.4), side=1, effect=published, null=(-0.1, 0.1)) for published in (0.35, 0.6)]
        ['shown', 'weaker']
    """
    if side == 0:
        return _small(interval, effect, sum(null) / 2)
    (low, high), (below, above) = _turned(interval, side), _turned(null, side)
    if high < below:
        return "opposite"
    if low > above:
        return "shown" if effect is None or high >= side * effect else "weaker"
    if low >= below and high <= above:
        return "absent"
    return "absent" if effect is not None and high < side * effect and side * value <= above else "open"


def identity(error: float, *, threshold: float = 1e-6) -> str:
    """An identity or an algorithm: *shown*, if the largest relative error is below ``threshold``; else *opposite*."""
    return "shown" if 0 <= error < threshold else "opposite"


def cost(ratio: float, interval: Interval | None, *, side: int, effect: float | None, threshold: float = 1.0) -> str:
    """A ratio of costs in one run on one machine.

    *shown*, if it (or its interval) reaches ``effect``, or lies beyond 1 where none was published; *weaker*, if only
    the direction holds; else *absent*.
    """
    reach = max(_turned(interval or (ratio, ratio), side))
    if side * ratio <= side * threshold:
        return "absent"
    return "shown" if effect is None or reach >= side * effect else "weaker"


def judge(
    rule: str,
    value: Mapping[str, float | None],
    interval: Mapping[str, Interval],
    null: Mapping[str, Interval],
    *,
    settings: Sequence[str],
    side: Mapping[str, int],
    effect: Mapping[str, float | None],
    threshold: Mapping[str, float],
) -> tuple[str, dict[str, str]]:
    """The verdict on a claim and the finding at each of its ``settings``; all mappings are by setting.

    A setting without a value is *open*. A trend has one finding, for all its settings: from those named ``trend`` and
    ``ends`` where these are its settings, else from ``sweep`` in the order of ``settings``. An identity is reproduced
    only if shown at every setting, and not decided while one is open. No value at all: not decided here.
    """
    there = [s for s in settings if value.get(s) is not None]
    if not there:
        return "not decided here", dict.fromkeys(settings, "open")
    if rule == "trend":
        finding, first = "open", settings[0]
        sized = {"side": side[first], "effect": effect[settings[-1]]}
        if set(settings) == set(DIRECT):
            if set(there) == set(DIRECT):
                finding = trend(interval["trend"], interval["ends"], **sized)
        elif len(there) >= 3:
            finding = trend(*sweep([value[s] for s in there], [interval[s] for s in there])[1:], **sized)
        return combine([finding]), dict.fromkeys(settings, finding)
    find = {
        "difference": lambda s: difference(interval[s], side=side[s], effect=effect[s], threshold=threshold[s]),
        "correlation": lambda s: correlation(value[s], interval[s], side=side[s], effect=effect[s], null=null[s]),
        "identity": lambda s: identity(value[s], threshold=threshold[s]),
        "cost": lambda s: cost(value[s], interval.get(s), side=side[s], effect=effect[s], threshold=threshold[s]),
    }
    find["share"] = find["correlation"]
    findings = {s: find[rule](s) if s in there else "open" for s in settings}
    if rule == "identity" and "open" in findings.values() and "opposite" not in findings.values():
        return "not decided here", findings
    return combine(list(findings.values())), findings


def runs_needed(interval: Interval, effect: float, chance: float) -> float:
    """How many times as many runs would decide an open setting: the half-width must fall to half of |effect − chance|.

    Example:
        >>> runs_needed((-1.0, 1.0), effect=0.5, chance=0.0)
        16.0
    """
    gap = abs(effect - chance)
    return math.inf if gap == 0 else ((interval[1] - interval[0]) / gap) ** 2


def _small(interval: Interval, margin: float | None, centre: float) -> str:
    if margin is None or margin <= 0:
        raise ValueError(f"effect must be a margin above 0 where side is 0, got {margin}")
    low, high = interval[0] - centre, interval[1] - centre
    if -margin < low and high < margin:
        return "shown"
    return "opposite" if low > margin or high < -margin else "open"


def _turned(interval: Interval, side: int) -> Interval:
    low, high = sorted(side * end for end in interval)
    return low, high


def _rank_correlation(rows: np.ndarray) -> np.ndarray:
    """Spearman of each row with 0, 1, 2, …; 0 where a row is constant."""
    a = rankdata(rows, axis=1) - (rows.shape[1] + 1) / 2
    b = np.arange(rows.shape[1]) - (rows.shape[1] - 1) / 2
    scale = np.sqrt((a * a).sum(1) * (b * b).sum())
    return np.divide(a @ b, scale, out=np.zeros(len(a)), where=scale > 0)
