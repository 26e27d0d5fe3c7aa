"""Behind ``gpu_run.sh``, which says what it is for: notebooks cell by cell, stopped in time, and what has to travel.

Each notebook has a process and a folder of results of its own. Between calls, where the machine may be another one,
travel: what was found; and of the store of a notebook that was stopped the shards that hold the most work for a byte.
``provenance.json`` says by notebook where, when and with what it ran, and what is left.
"""

import ast
import datetime
import importlib.metadata
import importlib.util
import json
import linecache
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import traceback
import types
from pathlib import Path

import yaml

REPO = Path(__file__).resolve().parents[2]
ORDER = ("bench", "05", "04", "03", "01", "06")
LEAST = 30  # seconds that must be left for a notebook to be begun
GRACE = 20  # seconds for a stopped one to end
SCORES = {"03": ("clothes", "mem", "trials")}  # a data set, an estimate of its rows, and how many networks gave it
STAND_INS = {
    "fastjsonschema": """def compile(schema): return lambda entry: entry
class JsonSchemaValueException(ValueError): pass
""",
    "pooch": """import hashlib, pathlib
def file_hash(path): return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
""",
}
ENVIRONMENT = {"MPLBACKEND": "Agg", "TQDM_DISABLE": "1", "STUDY_PARTIAL": ".partial"}


def code_cells(text: str) -> list[tuple[str, str]]:
    """Code cells of a notebook in percent format: what stands behind ``# %%``, and the source."""
    parts = re.split(r"^# %%(.*)\n", text, flags=re.M)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return [(head.strip(), source.strip()) for head, source in pairs if not head.strip().startswith("[markdown]")]


def injected(notebook: Path, home: Path, profile: str, given: dict[str, str]) -> dict:
    """The values of the parameters, as ``lib.study.notebooks.overrides`` has them; ValueError for an unknown name."""
    (cell,) = [source for head, source in code_cells(notebook.read_text("utf8")) if '"parameters"' in head]
    kinds = {node.target.id: node.annotation.id for node in ast.parse(cell).body if isinstance(node, ast.AnnAssign)}
    values = yaml.safe_load((home / "profiles" / profile / f"{notebook.name[:2]}.yaml").read_text("utf8"))
    values |= {name: text if kinds.get(name) == "str" else yaml.safe_load(text) for name, text in given.items()}
    if unknown := [name for name in values if name not in kinds]:
        raise ValueError(f"{notebook.name} has no parameter {unknown[0]}; it has {', '.join(kinds)}")
    return {name: float(v) if kinds[name] == "float" and type(v) is int else v for name, v in values.items()}


def stand_ins(folder: Path) -> list[str]:
    """Modules in the place of packages that only check or download, where they are not installed: their names."""
    missing = [name for name in STAND_INS if importlib.util.find_spec(name) is None]
    for name in missing:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(STAND_INS[name])
    if missing:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))
    return missing


def run_cells(notebook: Path, values: dict, until: float) -> dict:
    """Run the cells as a kernel would, ``values`` after the parameters; the names that they leave.

    What a cell raises passes on, with its number and lines in the traceback; KeyboardInterrupt at the time ``until``.
    """
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, max(0.1, until - time.time()))
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # where what cells define is looked for
    os.chdir(notebook.parent)
    for number, (head, source) in enumerate(code_cells(notebook.read_text("utf8")), 1):
        name = f"<{notebook.stem}, cell {number}>"
        linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
        exec(compile(source, name, "exec"), vars(main))
        if '"parameters"' in head:
            vars(main).update(values)
        if plots := sys.modules.get("matplotlib.pyplot"):
            plots.close("all")
    signal.setitimer(signal.ITIMER_REAL, 0)
    return vars(main)


def machine(device: str) -> dict:
    """Where, with what and when: what must be known of a figure."""
    name, versions = platform.processor() or "CPU", {"python": platform.python_version()}
    if device.startswith("cuda"):
        import torch

        name, versions["cuda"] = torch.cuda.get_device_name(device), torch.version.cuda
    versions |= {package: importlib.metadata.version(package) for package in ("torch", "numpy", "scipy")}
    git = ["git", "-C", str(REPO), "rev-parse", "HEAD"]
    commit = os.environ.get("COMMIT") or subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return {"device": name, "versions": versions, "commit": commit, "date": f"{datetime.date.today()}"}


def cells(task: Path) -> int:
    """A process of its own: run the notebook of ``task.json``; ``told.json`` beside it says where and how it went."""
    asked, told = json.loads(task.read_text("utf8")), {}
    notebook, values, status = Path(asked["notebook"]), asked["values"], 0
    from lib.ledger.claims import load_claims

    try:
        names = run_cells(notebook, values, asked["until"])
        found = task.parent / values["profile"] / "claims" / f"{notebook.name[:2]}.partial.json"
        owned = [claim.id for claim in load_claims(asked["claims"]).values() if claim.notebook == notebook.name[:2]]
        recorded = json.loads(found.read_text("utf8")) if found.exists() else {}
        if missing := [name for name in owned if name not in recorded]:
            raise ValueError(f"claims not recorded: {', '.join(missing)}")
        if owned:
            found.replace(task.with_name("found.json"))
        told |= machine(values.get("device", "cpu"))
        if notebook.name[:2] in SCORES and values["profile"] == "paper":
            told["scores"] = keep_scores(names, *SCORES[notebook.name[:2]], task.parent)
    except KeyboardInterrupt:
        status = 130
    except BaseException as error:
        told["failed"], status = f"{type(error).__name__}: {error}", 1
        traceback.print_exc()
    task.with_name("told.json").write_text(json.dumps(told, ensure_ascii=False))
    return status


def keep_scores(names: dict, data: str, estimate: str, networks: str, folder: Path) -> dict:
    """The estimate and its standard error as columns of the data set's rows, and how they were made."""
    import numpy as np

    data, estimate, column = names[data], names[estimate], f"memorization_{names[networks]}"
    columns = {column: estimate.value, f"{column}_stderr": estimate.error}
    columns = {name: np.asarray(values, "float32") for name, values in columns.items()}
    np.savez_compressed(folder / f"scores-{data.name}.npz", row=data.rows_train.numpy(), **columns)
    return {data.name: {"group": column, "dataset_sha256": data.sha256, "architecture": names["architecture"]}}


class Folder:
    """What comes home: files, and ``provenance.json`` as ``told``, written whole after every change."""

    def __init__(self, path: Path, profile: str):
        self.path, self.file = path, path / "provenance.json"
        new = {"profile": profile, "notebooks": {}, "scores": {}, "left": list(ORDER), "failed": {}, "spent": {}}
        self.told = json.loads(self.file.read_text("utf8")) if self.file.exists() else new
        if self.told["profile"] != profile:
            raise ValueError(f"{path} holds what was found at the profile {self.told['profile']}, not {profile}")

    def write(self) -> None:
        new = self.file.with_suffix(".tmp")
        new.write_text(json.dumps(self.told, indent=1, ensure_ascii=False))
        new.replace(self.file)

    def shards(self, number: str) -> Path:
        return self.path / f"store-{number}.tar.gz"

    def unpack(self, number: str, cache: Path) -> None:
        if self.shards(number).exists():
            with tarfile.open(self.shards(number)) as archive:
                archive.extractall(cache, filter="data")

    def pack(self, number: str, cache: Path, most: float, begun: float) -> str:
        """Finished shards, first those that took longest for a byte, up to so many bytes; what was taken, in words.

        A shard took as long as it is younger than the one before it (the first: than ``begun``), ten minutes at most.
        """
        files = sorted(cache.glob("*.npz"), key=lambda file: file.stat().st_mtime)
        times = [begun, *(file.stat().st_mtime for file in files)]
        took = {file: min(600, abs(after - t)) for file, t, after in zip(files, times, times[1:], strict=False)}
        taken, bytes_ = [], 0
        for file in sorted(files, key=lambda file: -took[file] / file.stat().st_size):
            if bytes_ + file.stat().st_size <= most:
                taken, bytes_ = [*taken, file], bytes_ + file.stat().st_size
        if taken:
            with tarfile.open(self.shards(number), "w:gz") as archive:
                for file in taken:
                    archive.add(file, file.name)
        whole = sum(file.stat().st_size for file in files)
        return f"{len(taken)} of {len(files)} shards go along, {bytes_ / 1e6:.1f} of {whole / 1e6:.1f} MB"

    def finish(self, number: str) -> None:
        self.shards(number).unlink(missing_ok=True)
        self.told["left"].remove(number)
        self.told["failed"].pop(number, None)
        self.write()


def bench(folder: Folder, profile: str, device: str, seconds: float) -> int:
    out = folder.path / "bench_gpu.json"
    command = [sys.executable, Path(__file__).with_name("bench_gpu.py"), "--device", device, "--out", out, "--rest"]
    command += ["--seconds", f"{min(235, seconds - GRACE):.0f}", *(["--small"] if profile == "smoke" else [])]
    command += ["--cifar10", os.environ["CIFAR10"]] if os.environ.get("CIFAR10") else []
    process = subprocess.Popen(list(map(str, command)))
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # which ends the row under way, too
        status = process.wait() and 130
    if status not in (0, 130):
        folder.told["failed"]["bench"] = f"status {status}"
    if status == 0:
        folder.finish("bench")
    return status


def notebook(number: str, folder: Folder, home: Path, values: dict, work: Path, until: float, most: float) -> int:
    """Run one in a process of its own until then, and take home what there is."""
    (source,) = home.glob(f"{number}_*.py")
    place = work / folder.told["profile"] / number
    cache, told = place / values["profile"] / "cache", place / "told.json"
    place.mkdir(parents=True, exist_ok=True)
    told.unlink(missing_ok=True)
    folder.unpack(number, cache)
    task = {"notebook": str(source), "values": values, "until": until, "claims": str(home / "claims.yaml")}
    (place / "task.json").write_text(json.dumps(task))
    environment = os.environ | ENVIRONMENT | {"STUDY_RESULTS": str(place)}
    begun = time.time()
    process = subprocess.Popen([sys.executable, __file__, "--cells", place / "task.json"], env=environment)
    try:
        status = process.wait(max(1, until + GRACE - time.time()))
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait() and 130
    found = json.loads(told.read_text("utf8")) if told.exists() else {"failed": f"ended with status {status}"}
    spent = folder.told["spent"][number] = round(folder.told["spent"].get(number, 0) + time.time() - begun, 1)
    if status == 0:
        made = {key: found[key] for key in ("device", "versions", "commit", "date")}
        folder.told["notebooks"][number] = made | {"seconds": spent, "parameters": values}
        folder.told["scores"] |= {name: made | how for name, how in found.get("scores", {}).items()}
        for file in (place / "found.json", *place.glob("scores-*.npz")):
            if file.exists():
                shutil.copy(file, folder.path / (f"{number}.json" if file.name == "found.json" else file.name))
        folder.finish(number)
        print(f"{number}: done, {spent:.0f} s in all", flush=True)
        return 0
    kept = folder.pack(number, cache, most, begun)
    if status != 130:
        folder.told["failed"][number] = found.get("failed", f"ended with status {status}")
    print(f"{number}: {'stopped' if status == 130 else folder.told['failed'][number]}; {kept}", flush=True)
    folder.write()
    return status


def main(argv: list[str], home: Path = REPO / "notebooks") -> int:
    setting = lambda name, otherwise: os.environ.get(name) or otherwise
    profile, device, minutes = setting("PROFILE", "paper"), setting("DEVICE", "cuda"), float(setting("MINUTES", "9"))
    until, most = time.time() + 60 * minutes, 1e6 * float(setting("CARRY_MB", "8"))
    work = Path(setting("WORK", REPO / "results" / "gpu_run")).resolve()
    try:
        if not argv or argv[0].startswith("-"):
            raise ValueError("usage: gpu_run.sh FOLDER [NN:name=value …]")
        path, wanted = Path(argv[0]).resolve(), [re.fullmatch(r"(\d\d):(\w+)=(.*)", word) for word in argv[1:]]
        if None in wanted:
            raise ValueError(f"expected NN:name=value, got {argv[1 + wanted.index(None)]}")
        if not setting("COMMIT", (REPO / ".git").exists()):
            raise ValueError("there is no git here: say COMMIT=… of which commit this is")
        if before := os.environ.get("FROM"):
            shutil.copytree(before, path, dirs_exist_ok=True)
        path.mkdir(parents=True, exist_ok=True)
        folder, values = Folder(path, profile), {}
        numbers = [number for number in folder.told["left"] if number != "bench"]
        for number in numbers:
            given = {
                m[2]: str(Path(m[3]).resolve()) if Path(m[3]).is_file() else m[3] for m in wanted if m[1] == number
            }
            (source,) = home.glob(f"{number}_*.py")
            values[number] = injected(source, home, profile, {"device": device} | given)
    except (ValueError, OSError) as error:
        print(f"gpu_run.sh: {error}", file=sys.stderr)
        return 2
    folder.write()
    if missing := stand_ins(work / "stand_ins"):
        print(f"not installed, and done without: {', '.join(missing)}", flush=True)
    late = lambda number: (number in folder.told["failed"], folder.told["spent"].get(number, 0) > 120 * minutes)
    for number in sorted(folder.told["left"], key=late):  # what failed, or would not end, does not hold up the others
        if (left := until - time.time()) < LEAST:
            break
        print(f"{number}, profile {profile}: {left / 60:.1f} minutes are left …", flush=True)
        if number == "bench":
            bench(folder, profile, device, left)
        else:
            notebook(number, folder, home, values[number], work, until, most)
    folder.write()
    left, failed = folder.told["left"], folder.told["failed"]
    print(
        f"left: {', '.join(left) or 'nothing'}{''.join(f'; {number} failed: {why}' for number, why in failed.items())}"
    )
    return 0 if not left else 1 if set(left) <= set(failed) else 130


if __name__ == "__main__":
    sys.exit(cells(Path(sys.argv[2]).resolve()) if sys.argv[1:2] == ["--cells"] else main(sys.argv[1:]))
