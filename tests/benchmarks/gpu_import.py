"""What ``gpu_run.sh`` left in a folder, home again: ./run_all.sh --import FOLDER

All of it is checked before anything is written; exit status 2 where something is wrong with it.
"""

import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lib.data.score_files import merge_scores
from lib.ledger.claims import digest, load_claims
from lib.ledger.ledger import judged, read_records
from lib.study import publish
from lib.study.notebooks import REPO

_RUN = ("device", "versions", "commit", "date")
ORIGIN = {"notebooks": _RUN, "scores": (*_RUN, "group", "dataset_sha256")}  # what must be known of what is brought in


def bring_in(folder: str | Path, repo: Path = REPO) -> list[Path]:
    """Merge what another machine found at the profile paper, all of it checked before, and return what was written.

    ``gpu_run.sh`` leaves such a folder: the ledger's ``NN.json``, in place of earlier records of this
    notebook; ``scores-NAME.npz``, ``row`` and columns for ``data/scores/NAME.parquet``; and ``provenance.json``, which
    says by notebook and by NAME how they were made. ValueError names the file and what is wrong with it.
    """
    folder, kept, scores = Path(folder), repo / "notebooks" / "verdicts" / "paper", repo / "data" / "scores"
    origin, claims = _read(folder / "provenance.json"), load_claims(repo / "notebooks" / "claims.yaml")
    if origin.get("profile") != "paper":
        raise ValueError(f"provenance.json: expected the profile 'paper', got {origin.get('profile')!r}")
    records, texts, runs, merges, whence = read_records(kept), {}, {}, [], kept / "provenance.json"
    for path in sorted([*folder.glob("[0-9][0-9].json"), *folder.glob("scores-*.npz")]):
        kind, name = ("scores", path.stem[7:]) if path.suffix == ".npz" else ("notebooks", path.stem)
        entries, run = _read(path), origin.get(kind, {}).get(name, {})
        if lacks := [one for one in ORIGIN[kind] if not run.get(one)]:
            raise ValueError(f"provenance.json does not say of {path.name}: {', '.join(lacks)}")
        if kind == "scores":
            if not (scores / f"{name}.parquet").exists() or (rows := entries.pop("row", None)) is None:
                raise ValueError(f"{path.name}: expected rows of data/scores/{name}.parquet, with columns")
            merges.append({"name": name, "columns": entries, "rows": rows, "group": run["group"], "made": run})
            continue
        if wrong := sorted(entries.keys() ^ {claim.id for claim in claims.values() if claim.notebook == name}):
            raise ValueError(f"{path.name}: these are unknown there, or lacking: {', '.join(wrong)}")
        for one, record in entries.items():
            _check_record(f"{path.name}: {one}", claims[one], record)
            entries[one] = {key: value for key, value in record.items() if key not in publish.OF_THE_RUN}
        records, texts[kept / path.name], runs[name] = records | entries, publish.as_kept(entries), run
    if not texts and not merges:
        raise ValueError(f"{folder} holds neither records (NN.json) nor score columns (scores-NAME.npz)")
    if texts:
        texts[whence] = publish.as_kept((_read(whence) if whence.exists() else {}) | runs)
        texts |= publish.pages_of_verdicts(repo, larger=records)
    with tempfile.TemporaryDirectory() as trial:  # scores are merged into a copy first
        for place in (shutil.copytree(scores, Path(trial, "scores")), scores) if merges else ():
            for merge in merges:
                merge_scores(place / f"{merge['name']}.parquet", **{k: v for k, v in merge.items() if k != "name"})
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf8")
    return [*texts, *(scores / f"{merge['name']}.parquet" for merge in merges)]


def _read(path: Path) -> dict:
    try:
        return dict(np.load(path) if path.suffix == ".npz" else json.loads(path.read_text("utf8")))
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        what = f"{path.parent} has no {path.name}" if not path.exists() else f"{path.name} is damaged: {error}"
        raise ValueError(what) from None


def _check_record(where: str, claim, record: Mapping) -> None:
    """ValueError unless the record is of the profile paper and today's criterion makes of it what it says."""
    try:
        same = json.loads(json.dumps(judged(claim, record))) == record
        profile, stale = record["profile"], record["criterion"] != digest(claim)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where} is damaged: {type(error).__name__}: {error}") from None
    if profile != "paper" or stale or not same:
        wrong = "its verdict is not what its values give" if profile == "paper" else f"it is of the profile {profile}"
        raise ValueError(f"{where}: {'it is stale: claims.yaml has another criterion' if stale else wrong}")


def main(argv: Sequence[str], repo: Path = REPO) -> int:
    """The command; returns the exit status."""
    try:
        print(*(f"written: {path.relative_to(repo)}" for path in bring_in(*argv, repo)), sep="\n")
    except (OSError, ValueError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
