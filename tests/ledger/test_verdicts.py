import itertools

import pytest

from lib.ledger import verdicts
from lib.ledger.verdicts import (
    FINDINGS,
    combine,
    correlation,
    cost,
    difference,
    identity,
    judge,
    runs_needed,
    sweep,
    trend,
)

# One row a region of the number line; every rule must be symmetric in the claimed side.

DIFFERENCE = [  # interval, effect, finding for a claim above 0
    ((0.1, 0.3), 0.5, "shown"),  # smaller than published is still on the claimed side
    ((0.1, 0.9), None, "shown"),
    ((-0.3, -0.1), 0.5, "opposite"),
    ((-0.1, 0.4), 0.5, "absent"),  # too narrow to hold the published size
    ((-0.1, 0.5), 0.5, "open"),  # holds it
    ((-0.9, 0.1), None, "open"),  # no size to hold
    ((0.0, 0.4), 0.5, "absent"),  # touching is not clear
    ((-0.4, 0.0), 0.5, "absent"),
]


def turned(interval):
    return tuple(sorted(-end for end in interval))


@pytest.mark.parametrize(("interval", "effect", "finding"), DIFFERENCE)
def test_difference(interval, effect, finding):
    minus = None if effect is None else -effect
    assert difference(interval, side=1, effect=effect) == finding
    assert difference(turned(interval), side=-1, effect=minus) == finding
    moved = tuple(end - 2 for end in interval)
    assert difference(moved, side=1, effect=None if effect is None else effect - 2, threshold=-2) == finding


@pytest.mark.parametrize(
    ("interval", "finding"),
    [
        ((-0.4, 0.4), "shown"),
        ((0.1, 0.4), "shown"),
        ((-0.6, 0.1), "open"),
        ((0.6, 0.9), "opposite"),
        ((-2, -1), "opposite"),
    ],
)
def test_a_claim_of_smallness(interval, finding):
    assert difference(interval, side=0, effect=0.5) == finding
    assert difference(turned(interval), side=0, effect=0.5) == finding
    assert correlation(0, interval, side=0, effect=0.5, null=(-0.1, 0.1)) == finding
    assert trend((-1, 1), interval, side=0, effect=0.5) == finding
    assert difference(tuple(end + 3 for end in interval), side=0, effect=0.5, threshold=3) == finding


def test_smallness_needs_a_margin():
    for margin in (None, 0, -1):
        with pytest.raises(ValueError, match="effect must be a margin above 0 where side is 0"):
            difference((0, 1), side=0, effect=margin)


CORRELATION = [  # value, interval, published, null band, finding for a claim above chance
    (0.6, (0.5, 0.7), 0.65, (-0.1, 0.1), "shown"),  # reaches
    (0.8, (0.7, 0.9), 0.65, (-0.1, 0.1), "shown"),  # beyond
    (0.4, (0.3, 0.5), 0.65, (-0.1, 0.1), "weaker"),  # clear of chance, short of the published
    (0.4, (0.3, 0.5), None, (-0.1, 0.1), "shown"),  # nothing published to reach
    (-0.4, (-0.5, -0.3), 0.65, (-0.1, 0.1), "opposite"),
    (0.02, (-0.05, 0.08), 0.65, (-0.1, 0.1), "absent"),  # inside the band
    (0.05, (-0.2, 0.3), 0.65, (-0.1, 0.1), "absent"),  # value inside the band, published excluded
    (-0.1, (-0.3, 0.05), 0.65, (-0.1, 0.1), "absent"),
    (0.2, (0.05, 0.35), 0.65, (-0.1, 0.1), "open"),  # off the band, not clear of it
    (0.3, (-0.2, 0.7), 0.65, (-0.1, 0.1), "open"),  # holds both chance and the published
    (0.3, (-0.2, 0.7), None, (-0.1, 0.1), "open"),
]


@pytest.mark.parametrize(("value", "interval", "effect", "null", "finding"), CORRELATION)
def test_correlation(value, interval, effect, null, finding):
    assert correlation(value, interval, side=1, effect=effect, null=null) == finding
    minus = None if effect is None else -effect
    assert correlation(-value, turned(interval), side=-1, effect=minus, null=turned(null)) == finding


def test_a_share_against_chance():
    assert correlation(0.9, (0.88, 0.92), side=1, effect=0.898, null=(0.5, 0.5)) == "shown"
    assert correlation(0.7, (0.68, 0.72), side=1, effect=0.898, null=(0.5, 0.5)) == "weaker"
    assert correlation(0.4, (0.38, 0.42), side=1, effect=0.898, null=(0.5, 0.5)) == "opposite"


@pytest.mark.parametrize(
    ("rho", "ends", "effect", "finding"),
    [
        ((0.5, 1.0), (0.1, 0.3), 0.2, "shown"),
        ((-0.2, 0.9), (0.1, 0.3), 0.2, "weaker"),  # the ends differ only
        ((-0.5, 0.5), (-0.1, 0.1), 0.2, "absent"),  # flat, and narrower than the claim
        ((0.5, 1.0), (-0.1, 0.1), 0.2, "absent"),
        ((-0.5, 0.5), (-0.1, 0.3), 0.2, "open"),
        ((-0.5, 0.5), (-0.1, 0.1), None, "open"),
        ((-1.0, -0.5), (-0.3, -0.1), 0.2, "opposite"),
        ((-0.5, 0.5), (-0.3, -0.1), 0.2, "opposite"),
        ((-1.0, -0.5), (0.1, 0.3), 0.2, "opposite"),
    ],
)
def test_trend(rho, ends, effect, finding):
    assert trend(rho, ends, side=1, effect=effect) == finding
    assert trend(turned(rho), turned(ends), side=-1, effect=None if effect is None else -effect) == finding


def test_sweep_of_exact_values_is_exact():
    assert sweep([1, 4, 9], [(1, 1), (4, 4), (9, 9)]) == (1.0, (1.0, 1.0), (8.0, 8.0))
    assert sweep([2, 2, 2], [(2, 2)] * 3) == (0.0, (0.0, 0.0), (0.0, 0.0))
    rho, band, ends = sweep([3, 1, 2], [(3, 3), (1, 1), (2, 2)])
    assert (rho, band, ends) == (-0.5, (-0.5, -0.5), (-1.0, -1.0))


def test_sweep_of_noise_covers_everything_and_the_ends_add_in_quadrature():
    _, (low, high), ends = sweep([0, 0, 0, 0], [(-3, 3)] * 3 + [(-4, 4)])
    assert low < -0.7 and high > 0.7 and ends == (-5.0, 5.0)
    with pytest.raises(ValueError, match="at least 3 settings, got 2"):
        sweep([1, 2], [(1, 1), (2, 2)])


def test_identity():
    assert [identity(e) for e in (0, 9e-7, 1e-6, 1, -1e-9)] == ["shown", "shown", "opposite", "opposite", "opposite"]


def test_cost():
    assert cost(31, None, side=1, effect=30) == "shown"
    assert cost(12, None, side=1, effect=30) == "weaker"
    assert cost(28, (25, 31), side=1, effect=30) == "shown"
    assert cost(0.9, None, side=1, effect=30) == cost(1, None, side=1, effect=None) == "absent"
    assert cost(1.1, None, side=1, effect=None) == "shown"
    assert [cost(r, None, side=-1, effect=0.5) for r in (0.4, 0.8, 1.2)] == ["shown", "weaker", "absent"]


# From findings to a verdict


def by_the_table(findings):
    """The rule for several settings, said again and in another way."""
    count = {f: findings.count(f) / len(findings) for f in FINDINGS}
    if count["opposite"]:
        return "not reproduced"
    if round(3 * len(findings) * count["shown"]) >= 2 * len(findings):
        return "reproduced"
    if count["shown"] + count["weaker"]:
        return "partly"
    return "not reproduced" if round(3 * len(findings) * count["absent"]) >= 2 * len(findings) else "not decided here"


def test_combine_over_all_findings_of_up_to_four_settings():
    for n in (1, 2, 3, 4):
        for findings in itertools.product(FINDINGS, repeat=n):
            assert combine(findings) == by_the_table(findings) == combine(findings[::-1])


def test_better_findings_never_make_a_worse_verdict():
    order = ["not reproduced", "not decided here", "partly", "reproduced"]
    better = [("opposite", "absent"), ("absent", "open"), ("open", "weaker"), ("weaker", "shown")]
    for rest in itertools.product(FINDINGS, repeat=3):
        for worse, improved in better:
            assert order.index(combine((*rest, worse))) <= order.index(combine((*rest, improved)))


def test_combine_names_what_it_does_not_know():
    for wrong in ([], ["good"]):
        with pytest.raises(ValueError, match="findings must be some of shown, weaker, absent, opposite, open"):
            combine(wrong)


def judged(rule, value, interval=None, *, settings, side=1, effect=None, threshold=0.0, null=None):
    fill = lambda x: x if isinstance(x, dict) else dict.fromkeys(settings, x)
    interval = interval or {s: (v - 0.1, v + 0.1) for s, v in value.items() if v is not None}
    return judge(rule, value, interval, null or dict.fromkeys(settings, (0, 0)), settings=settings,
                 side=fill(side), effect=fill(effect), threshold=fill(threshold))  # fmt: skip


def test_settings_that_were_not_measured_are_open():
    assert judged("difference", {"a": 1, "b": 1}, settings=("a", "b", "c")) == (
        "reproduced", {"a": "shown", "b": "shown", "c": "open"})  # fmt: skip
    assert judged("difference", {"a": 1, "b": None}, settings=("a", "b"))[0] == "partly"
    assert judged("difference", {}, settings=("a", "b"))[0] == "not decided here"
    assert judged("difference", {"a": 1, "z": -5}, settings=("a",)) == ("reproduced", {"a": "shown"})


def test_side_effect_and_threshold_may_differ_by_setting():
    verdict, findings = judged(
        "difference", {"a": 1, "b": -1, "c": 0.5}, settings=("a", "b", "c"), side={"a": 1, "b": -1, "c": 1},
        effect={"a": 1, "b": -1, "c": 2}, threshold={"a": 0, "b": 0, "c": 0.5},
    )  # fmt: skip
    assert findings == {"a": "shown", "b": "shown", "c": "absent"} and verdict == "reproduced"


def test_an_identity_must_hold_everywhere():
    one = lambda value, settings: judged("identity", value, settings=settings, threshold=1e-6)[0]
    assert one({"a": 1e-9, "b": 1e-8}, ("a", "b")) == "reproduced"
    assert one({"a": 1e-9, "b": 1e-8}, ("a", "b", "c")) == "not decided here"
    assert one({"a": 1e-9, "b": 1e-3}, ("a", "b", "c")) == "not reproduced"


def test_a_trend_by_sweep_and_by_its_own_spearman():
    settings = ("1", "2", "4", "8")
    rising = {"1": 0.0, "2": 1.0, "4": 2.0, "8": 3.0}
    assert judged("trend", rising, settings=settings, effect=3)[0] == "reproduced"
    assert judged("trend", rising, settings=settings, side=-1)[0] == "not reproduced"
    assert judged("trend", {"1": 0.0, "8": 3.0}, settings=settings)[0] == "not decided here"
    direct = {"trend": 0.9, "ends": 0.4}
    assert judged("trend", direct, settings=("trend", "ends"))[0] == "reproduced"
    assert judged("trend", {"trend": 0.9}, settings=("trend", "ends"))[0] == "not decided here"


def test_runs_needed_would_decide():
    """With that many runs the interval, wherever its middle, cannot hold both chance and the published size."""
    interval, effect, chance = (-1.0, 2.0), 0.6, 0.1
    half = (interval[1] - interval[0]) / 2 / runs_needed(interval, effect, chance) ** 0.5
    assert 2 * half == pytest.approx(effect - chance)
    assert runs_needed((0, 1), 0.5, 0.5) == float("inf")


@pytest.mark.parametrize("rule", verdicts.RULES)
def test_every_rule_is_judged(rule):
    settings = ("trend", "ends") if rule == "trend" else ("a",)
    threshold = 3.0 if rule == "identity" else 0.0
    assert judged(rule, dict.fromkeys(settings, 2.0), settings=settings, threshold=threshold)[0] == "reproduced"
