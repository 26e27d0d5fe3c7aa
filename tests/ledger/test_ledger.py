import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lib.ledger.claims import CLAIMS, criterion, digest, load_claims
from lib.ledger.ledger import Ledger, judged, read_records, summary
from lib.ledger.tables import LOOKS, number
from lib.ledger.verdicts import VERDICTS
from lib.study.notebooks import REPO

ROWS = """
ui.table1 ui.table1.order ui.speed ui.fsi.examples ui.rare_class ui.sources ui.mislabelled ui.summarize
ui.summarize.transfer ui.toy ui.dependence ui.top_overlap ui.subclass ui.adversarial ui.text ui.sgd ui.projection
lt.estimator lt.fraction lt.marginal lt.pairs lt.pairs.published lt.utility lt.visual lt.consistency lt.last_layer
lt.followups
cg.closed_form cg.correlations cg.geometry cg.prune_low cg.prune_high cg.noise cg.partial cg.window cg.terms
cg.stochastic cg.dynamics cg.pictures cg.cost cg.models cg.baselines cg.features
dd.prune_early dd.grand_init dd.average dd.window dd.velocity dd.barrier dd.examples dd.architectures dd.correlations
dd.noise_scores dd.memorization
if.iris.decay if.iris.depth if.iris.width if.iris.solver if.decay_factor if.mnist.selection if.table1 if.cifar100
if.imagenet if.ground_truth if.init if.optimizer if.group if.multi_test if.cost if.visual if.pbrf if.null
all.ranks all.prune all.noise all.cost
""".split()
#: What the papers also state; that a claim holds it is not asked.
FURTHER = """
ui.identities ui.length_gap lt.influence.size lt.consistency.memorization cg.theorem cg.cifar10 cg.easier cg.runs
dd.el2n_is_grand dd.lemma dd.extreme dd.rate if.lowest if.decay.curvature if.distance if.lds
""".split()

PLAIN = {
    "id": "xx.plain", "notebook": "41", "paper": "a paper", "where": "Fig. 1", "claim": "A beats B", "published": "0.5",
    "rule": "difference", "measure": "A − B, points", "side": 1, "effect": 0.5, "settings": [],
    "covers": ["rows"],
}  # fmt: skip
SWEPT = PLAIN | {"id": "xx.swept", "settings": ["10%", "20%", "30%"], "later": "refuted <b>since</b>"}
EXACT = PLAIN | {"id": "xx.exact", "rule": "identity", "measure": "a against b", "effect": None, "side": 0}
WAITS = PLAIN | {"id": "xx.waits", "waits": "needs a download"}
GOOD = {"n": 5, "covers": ["rows"]}
OTHER = PLAIN | {"id": "yy.other", "notebook": "42", "rule": "correlation", "measure": "Spearman"}


def written(path, *entries):
    path.write_text(yaml.safe_dump(list(entries), allow_unicode=True), "utf8")
    return path


@pytest.fixture
def claims(tmp_path):
    return written(tmp_path / "claims.yaml", PLAIN, SWEPT, EXACT, WAITS, OTHER)


@pytest.fixture
def ledger(tmp_path, claims):
    return Ledger("41", "smoke", tmp_path, claims)


def on_disk(ledger):
    return json.loads(ledger.path.read_text("utf8")) if ledger.path.exists() else {}


# The list of claims


def test_every_row_has_a_claim_and_its_notebook():
    every = load_claims()
    assert set(ROWS) <= set(every)
    owner = {"ui": "02", "lt": "03", "cg": "04", "dd": "05", "if": "06", "all": "07"}
    for name, claim in every.items():
        early = name.startswith(("ui.table1", "ui.speed", "ui.projection"))
        main = "01" if early else owner[name.split(".")[0]]
        assert claim.notebook in (main, f"1{main[1]}"), name
        assert any(f"{name}.".startswith(f"{row}.") for row in ROWS + FURTHER), f"{name} belongs to no row"


def test_the_rows_are_those_of_the_list_of_claims():
    shared = Path(__file__).parents[2].parent / "shared" / "CLAIMS.md"
    if not shared.exists():
        pytest.skip("the list of claims is not beside this checkout")
    held = shared.read_text("utf8").partition("\n## Stated in the papers, and in no row above")[0]
    lines = [line for line in held.splitlines() if line.startswith("| ")]
    cells = [line.split("|")[1].strip() for line in lines]
    ids = [one.strip() for cell in cells for one in cell.split(",") if one.strip().split(".")[0] in
           ("ui", "lt", "cg", "dd", "if", "all") and "." in one]  # fmt: skip
    assert sorted(ids) == sorted(ROWS)


def test_every_claim_can_be_judged():
    for name, claim in load_claims().items():
        text = criterion(claim)
        assert claim.measure in text and claim.claim and claim.where and claim.published, name
        judgeable = claim.rule in ("identity", "cost") or any(e is not None for e in claim.effect.values())
        assert judgeable or name == "cg.geometry", f"{name} has no size to be held to"


def test_only_what_needs_data_or_code_waits():
    waiting = {name for name, claim in load_claims().items() if claim.waits}
    data = {"if.imagenet", "if.cifar100", "cg.models.vit", "lt.fraction.imagenet", "ui.text"}
    assert waiting <= data | {"cg.baselines", "cg.dynamics.velocity"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "vibes"}, "xx.plain: rule must be one of .'difference'.* got 'vibes'"),
        ({"side": 2}, "xx.plain: side must be smaller than or equal to 1, got 2"),
        ({"side": True}, "xx.plain: side must be integer or object, got True"),
        ({"notebook": 41}, "xx.plain: notebook must be string, got 41"),
        ({"notebook": "4"}, "xx.plain: notebook must match pattern .* got '4'"),
        ({"settings": [0.1]}, r"xx.plain: settings\[0\] must be string, got 0.1"),
        ({"settings": ["a", "a"]}, "xx.plain: settings must contain unique items, got"),
        ({"settings": ["a", "b"], "effect": {"a": 1}}, r"xx.plain: effect must be one value, or one for each of \['a'"),
        ({"effect": -0.5}, r"xx.plain: effect must be on the claimed side \(\+1\) of 0, got -0.5"),
        ({"side": 0, "effect": None}, "xx.plain: effect must be a margin above 0 where side is 0"),
        ({"effect": "0.5"}, "xx.plain: effect must be number or null or object, got '0.5'"),
        ({"rule": "share"}, "xx.plain: must contain .*'threshold'"),
        ({"rule": "trend", "settings": ["a", "b"]}, "xx.plain: settings must be at least 3 in the order of the sweep"),
        ({"colour": "red"}, "xx.plain: must not contain .*'colour'"),
        ({"sized": "guess"}, "xx.plain: sized must be one of .* got 'guess'"),
        ({"covers": ["weather"]}, r"xx.plain: covers\[0\] must be one of .* got 'weather'"),
        ({"rule": "as good as"}, "xx.plain: must contain .*'threshold'"),
        ({"within": 0}, "xx.plain: within must be bigger than 0, got 0"),
        ({"waits": None}, "xx.plain: waits must be string, got None"),
    ],
)
def test_a_claim_that_is_not_well_formed_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_claims(written(tmp_path / "c.yaml", PLAIN | change))


def test_missing_fields_and_double_ids_are_named(tmp_path):
    with pytest.raises(ValueError, match="xx.plain: must contain .*'measure'"):
        load_claims(written(tmp_path / "c.yaml", {k: v for k, v in PLAIN.items() if k != "measure"}))
    with pytest.raises(ValueError, match="xx.plain: id must be unique"):
        load_claims(written(tmp_path / "c.yaml", PLAIN, PLAIN))
    with pytest.raises(ValueError, match="must be a list of claims"):
        load_claims(written(tmp_path / "c.yaml", "a"))


def test_criteria_in_words(tmp_path):
    one = lambda **change: criterion(load_claims(written(tmp_path / "c.yaml", PLAIN | change))["xx.plain"])
    weaker = "; weaker where the whole interval falls short of the published value"
    assert one() == ("A − B, points: 95% interval above 0 and value at 0.375 or beyond "
                     f"(0.5 published, less a quarter{weaker}); interval over rows")  # fmt: skip
    assert f"value at 0.45 or beyond (0.5 published, less 0.05{weaker})" in one(within=0.05)
    assert weaker not in one(sized="study") + one(side=0) + one(effect=None)
    assert "in at least 2 of 3 settings (a; b; c), reversed in none" in one(settings=["a", "b", "c"])
    assert "in every one of 3 settings (a; b; c); interval" in one(settings=["a", "b", "c"], every=True)
    assert "below −1 and value at −2 or beyond (size set by us)" in one(side=-1, threshold=-1, effect=-2, sized="study")
    assert one(side=0, threshold=2, covers=[]) == "A − B, points: 95% interval within ±0.5 of 2"
    assert one(rule="as good as", threshold=-1, effect=0, covers=[]) == "A − B, points: 95% interval above −1"
    assert one(rule="identity", covers=[]) == "A − B, points: largest relative error below 1e-06 in float64"
    assert "ratio above 1 and value at 22.75 or beyond (30 published, less a quarter" in one(rule="cost", effect=30)
    assert "95% interval above chance (null band, or 0.2) and value at" in one(rule="share", threshold=0.2)
    assert "on the claimed side (+1 (a); −1 (b)) of 0" in one(settings=["a", "b"], side={"a": 1, "b": -1}, effect=None)
    assert "Spearman with the setting along 1; 2; 4, and last minus first" in one(
        rule="trend", settings=["1", "2", "4"]
    )


def test_the_digest_is_that_of_the_criterion(tmp_path):
    one = lambda **change: digest(load_claims(written(tmp_path / "c.yaml", PLAIN | change))["xx.plain"])
    assert one() == one(later="refuted", waits="a download", departs="smaller") and len(one()) == 10
    changes = [{"effect": 0.6}, {"side": 0}, {"covers": []}, {"measure": "B"}, {"within": 0.1}, {"threshold": 0.1},
               {"sized": "study"}, {"rule": "correlation"}, {"settings": ["a"]}]  # fmt: skip
    assert len({one(), *(one(**change) for change in changes)}) == 1 + len(changes)


# The ledger


def test_a_record_is_judged_and_written_with_all_that_made_it(ledger):
    ledger.record("xx.plain", 0.4, interval=(0.2, 0.6), note="five seeds", moved="with more rows .5", **GOOD)
    found = on_disk(ledger)["xx.plain"]
    assert set(found) == {"id", "value", "interval", "n", "covers", "null", "note", "moved", "reached", "criterion",
                          "findings", "verdict", "word", "reasons", "profile", "versions"}  # fmt: skip
    assert (found["value"], found["interval"], found["n"], found["note"]) == (0.4, [0.2, 0.6], 5, "five seeds")
    assert (found["verdict"], found["findings"], found["profile"]) == ("reproduced", "as published", "smoke")
    assert found["criterion"] == digest(ledger.owned["xx.plain"])
    assert found["versions"]["numpy"] == np.__version__ and "torch" in found["versions"]
    assert ledger.path.relative_to(ledger.path.parents[2]).as_posix() == "smoke/claims/41.json"


def test_every_record_is_written_at_once_and_replaces_the_last(ledger, tmp_path, claims):
    assert on_disk(ledger) == {}
    ledger.record("xx.exact", 1e-9)
    assert list(on_disk(ledger)) == ["xx.exact"]
    ledger.record("xx.plain", -1, interval=(-2, -0.5))
    ledger.record("xx.plain", 0, interval=(-1, 1))
    assert on_disk(ledger)["xx.plain"]["verdict"] == "not decided here"
    assert [p.name for p in ledger.path.parent.iterdir()] == ["41.json"]
    later = Ledger("41", "smoke", tmp_path, claims)
    assert list(on_disk(later)) == ["xx.exact", "xx.plain"]  # to open it, as a reader may, loses nothing
    later.record("xx.exact", 1e-9)
    assert list(on_disk(later)) == ["xx.exact"]  # and a new run does not inherit


def test_numbers_of_any_library_are_kept_as_floats(ledger):
    ledger.record("xx.plain", np.float32(0.5), interval=torch.tensor([0.25, 0.75]), n=np.int64(3))
    found = on_disk(ledger)["xx.plain"]
    assert (found["value"], found["interval"], found["n"]) == (0.5, [0.25, 0.75], 3)
    assert isinstance(ledger.found["xx.plain"]["value"], float)


def test_settings_extra_missing_and_open(ledger):
    value = {"10%": 0.4, "20%": 0.3, "50%": -9.0}
    ledger.record("xx.swept", value, interval={"10%": (0.2, 0.6), "20%": (-0.1, 0.65), "50%": (-9, -9)}, n=4)
    found = ledger.found["xx.swept"]
    assert found["findings"] == {"10%": "as published", "20%": "open", "30%": "open"} and found["verdict"] == "partly"
    assert found["reasons"] == ["not measured: 30%", "not judged: 50%",
                                "open at 20%: n of about 16, here 4, would decide"]  # fmt: skip
    ledger.record("xx.plain", 0.2, interval=(-0.05, 0.45), n=4)  # 4 · (.5 / .375)², three quarters of .5 being enough
    assert ledger.found["xx.plain"]["reasons"] == ["open: n of about 8, here 4, would decide"]


def test_no_value_needs_a_reason(ledger):
    ledger.record("xx.plain", None, note="no time")
    ledger.record("xx.waits", None)
    ledger.record("xx.swept", {"10%": None}, note="not trained")
    assert {name: found["verdict"] for name, found in on_disk(ledger).items()} == dict.fromkeys(
        ["xx.plain", "xx.waits", "xx.swept"], "not decided here")  # fmt: skip
    assert on_disk(ledger)["xx.waits"]["note"] == "needs a download"
    with pytest.raises(ValueError, match="value of xx.exact is None: say why in note"):
        ledger.record("xx.exact", None)


def test_a_null_band_decides_a_correlation(tmp_path, claims):
    ledger = Ledger("42", "smoke", tmp_path, claims)
    ledger.record("yy.other", 0.3, interval=(0.2, 0.4))
    assert ledger.found["yy.other"]["verdict"] == "partly" and ledger.found["yy.other"]["null"] is None
    ledger.record("yy.other", 0.3, interval=(0.2, 0.37), null=(-0.45, 0.45), moved="with more rows .2", **GOOD)
    assert ledger.found["yy.other"]["verdict"] == "not reproduced" and ledger.found["yy.other"]["word"] == "absent"
    assert ledger.found["yy.other"]["null"] == [-0.45, 0.45]
    ledger.record("yy.other", 0.3, interval=(0.2, 0.4), null=0.25, n=10)
    assert ledger.found["yy.other"]["verdict"] == "not decided here"


def test_what_the_interval_covers_and_whether_it_is_us(ledger):
    """A failure is not decided before a run has asked; an interval that leaves something out shows partly."""
    ledger.record("xx.plain", 0.5, interval=(0.4, 0.6), covers=["initializations"])
    assert ledger.found["xx.plain"]["verdict"] == "partly"
    assert ledger.found["xx.plain"]["reasons"] == ["the interval leaves out rows"]
    ledger.record("xx.plain", -0.5, interval=(-0.6, -0.4), **GOOD)
    assert (ledger.found["xx.plain"]["verdict"], ledger.found["xx.plain"]["word"]) == ("not decided here", "reversed")
    ledger.record("xx.plain", -0.5, interval=(-0.6, -0.4), moved="with twice the steps −.6", **GOOD)
    assert ledger.found["xx.plain"]["verdict"] == "not reproduced"
    ledger.record("xx.plain", -0.5, interval=(-0.6, -0.4), moved="with twice the steps .5", reached=True, **GOOD)
    found = on_disk(ledger)["xx.plain"]
    assert found["verdict"] == judged(ledger.owned["xx.plain"], found)["verdict"] == "not decided here"


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("xx.plain", float("nan")), {"interval": (0, 1)}, "value of xx.plain is NaN"),
        (("xx.swept", {"10%": float("nan")}), {}, "value of xx.swept at 10% is NaN"),
        (("xx.plain", float("inf")), {"interval": (0, 1)}, "value of xx.plain is infinite"),
        (("xx.plain", 1), {"interval": (0, float("nan"))}, "interval of xx.plain is NaN"),
        (("xx.plain", 1), {}, r"interval of xx.plain must be \(low, high\): a difference is judged by it"),
        (("xx.swept", {"10%": 1}), {"interval": {"20%": (0, 1)}}, "interval of xx.swept at 10% must be"),
        (("xx.plain", 1), {"interval": (2, 1)}, r"with low ≤ high, got \(2.0, 1.0\)"),
        (("xx.plain", 1), {"interval": 0.1}, r"interval of xx.plain must be \(low, high\), got 0.1"),
        (("xx.plain", "many"), {"interval": (0, 1)}, "value of xx.plain must be a number, got 'many'"),
        (("xx.plain", {"a": 1}), {"interval": (0, 1)}, r"value of xx.plain must be single.*got \['a'\]"),
        (
            ("xx.swept", 1),
            {"interval": (0, 1)},
            r"value of xx.swept must be a dict by setting \(10%, 20%, 30%\), got 1",
        ),
        (("xx.plain", 1), {"interval": (0, 1), "covers": "rows"}, "covers of xx.plain must be some of initializations"),
        (("xx.plain", 1), {"interval": (0, 1), "covers": ["luck"]}, r"covers of xx.plain .* got \['luck'\]"),
        (("xx.unknown", 1), {}, "xx.unknown is no claim of notebook 41, which has xx.plain, xx.swept"),
        (("yy.other", 1), {}, "yy.other belongs to notebook 42, this is 41"),
    ],
)
def test_what_cannot_be_judged_is_refused(ledger, args, options, message):
    with pytest.raises(ValueError, match=message):
        ledger.record(*args, **options)
    assert on_disk(ledger) == {}


def test_a_notebook_without_claims_is_refused(tmp_path, claims):
    assert Ledger("41_a_name", "smoke", tmp_path, claims).notebook == "41"
    with pytest.raises(ValueError, match=r"notebook must be one of \['41', '42'\], got '08'"):
        Ledger("08", "smoke", tmp_path, claims)
    with pytest.raises(ValueError, match="profile must be a plain name"):
        Ledger("41", "../x", tmp_path, claims)


def test_the_default_folder_is_that_of_the_results(tmp_path, claims, monkeypatch):
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path / "r"))
    assert Ledger("41", "laptop", claims=claims).path == tmp_path / "r/laptop/claims/41.json"


# Tables


def record_all(ledger):
    ledger.record("xx.plain", 0.4, interval=(0.2, 0.6), **GOOD)
    shown = {"10%": -1.0, "20%": -1.0, "50%": 2.0}, {"10%": (-2, -0.5), "20%": (-2, -0.5), "50%": (1, 3)}
    ledger.record("xx.swept", shown[0], interval=shown[1], covers=["rows"], moved="with <more> rows −2")
    ledger.record("xx.exact", 3.14159e-9, n=80)
    ledger.record("xx.waits", None)


def test_the_table_needs_every_claim_where_a_whole_notebook_runs(ledger, monkeypatch):
    ledger.record("xx.plain", 0.4, interval=(0.2, 0.6))
    monkeypatch.delenv("STUDY_PARTIAL", raising=False)
    assert ledger.table().to_html().count("· not run") == 3
    monkeypatch.setenv("STUDY_PARTIAL", ".partial1")
    with pytest.raises(
        ValueError, match="notebook 41 owns claims that were not recorded: xx.swept, xx.exact, xx.waits"
    ):
        ledger.table()


def test_the_table_shows_all_and_reads_without_colour(ledger):
    record_all(ledger)
    page = ledger.table().to_html()
    for text in ("<code>xx.plain</code><br>A beats B", "0.40 [0.20, 0.60] (n = 5)", "● reproduced: as published",
                 "○ not reproduced: reversed", "= holds", "Is it us? with &lt;more&gt; rows −2",
                 "– not decided here", "✕ 10%: −1.0 [−2.0, −0.5]", "· 50%: 2.0 [1.0, 3.0]",
                 "3.14e-09 (n = 80)", "needs a download", "refuted &lt;b&gt;since&lt;/b&gt;",
                 "Profile smoke", "95% interval above 0"):  # fmt: skip
        assert text in page, text
    assert page == ledger.table().to_html()
    frame = ledger.table().data
    assert list(frame.columns) == ["claim", "published", "ours", "criterion", "verdict", "later"]
    assert "counts as reproduced when" in ledger.criteria().to_html()


def test_every_verdict_has_a_sign_of_its_own():
    assert set(VERDICTS) < set(LOOKS)
    assert len({sign for sign, _ in LOOKS.values()}) == len(LOOKS)


def test_the_summary_has_every_claim_run_or_not(ledger, tmp_path, claims):
    record_all(ledger)
    table = summary(read_records(tmp_path / "smoke/claims"), claims)
    assert list(table.id) == ["xx.plain", "xx.swept", "xx.exact", "xx.waits", "yy.other"]
    assert dict(zip(table.id, table.verdict, strict=True)) == {
        "xx.plain": "reproduced", "xx.swept": "not reproduced", "xx.exact": "holds",
        "xx.waits": "not decided here", "yy.other": "not run"}  # fmt: skip
    assert table.n.tolist()[:1] == [5] and pd.isna(table.n[4])
    assert set(summary(read_records(tmp_path / "laptop/claims"), claims).verdict) == {"not run"}


@pytest.mark.parametrize("damage", ["", "{", "[1]", '"a"'])
def test_a_damaged_file_of_records_counts_as_not_run(ledger, tmp_path, damage):
    record_all(ledger)
    other = ledger.path.with_name("42.json")
    other.write_text(damage, "utf8")
    with pytest.warns(UserWarning, match="42.json is damaged"):
        assert list(read_records(other.parent)) == ["xx.plain", "xx.swept", "xx.exact", "xx.waits"]


def test_the_summary_says_where_the_criterion_has_changed_since(ledger, tmp_path, claims):
    record_all(ledger)
    written(claims, PLAIN | {"effect": 0.7}, SWEPT, EXACT, WAITS)
    table = summary(read_records(tmp_path / "smoke/claims"), claims).set_index("id")
    assert table.reasons["xx.plain"] == "judged by an earlier criterion" and "earlier" not in table.reasons["xx.exact"]
    written(claims, PLAIN)
    with pytest.warns(UserWarning, match="hold claims that claims.yaml does not: xx.exact, xx.swept, xx.waits"):
        summary(read_records(tmp_path / "smoke/claims"), claims)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((0.94371, (0.9421, 0.9453)), "0.9437 [0.9421, 0.9453]"),
        ((-5.31, (-6.5, -4.1)), "−5.3 [−6.5, −4.1]"),
        ((123.4, (100, 150)), "123 [100, 150]"),
        ((0.0, (0.0, 0.0)), "0 [0, 0]"),
        ((1234567.0,), "1,234,567"),
        ((0.123456,), "0.123"),
        ((-2e-9,), "-2e-09"),
    ],
)
def test_numbers_show_the_digits_that_they_have(args, text):
    assert number(*args) == text


def test_the_list_lies_beside_the_notebooks():
    assert CLAIMS == REPO / "notebooks" / "claims.yaml"
