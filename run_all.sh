#!/usr/bin/env -S bash
code=$(<"$0") && [ -z "${BASH_EXECUTION_STRING:-}" ] && [[ $code = *$'\r'* ]] && exec bash -c "${code//$'\r'/}" "$0" "$@" # Windows line ends
# The whole study, set-up included: ./run_all.sh --help
# Goes on in an environment that meets requirements.txt, or in .venv, which it makes; the rest is lib/study/runner.py.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")" && pwd)
pins=$here/requirements.txt venv=$here/.venv log=$here/.venv/install.log
stamp=$venv/made-by-run-all # a copy of the requirements that .venv holds, or "incomplete"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
say() { echo "run_all.sh: $*" >&2; }
go_on() { exec "$1" -m lib.study.runner "${@:2}"; }

usable='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
unmet=' # fails, and says which pins the packages of this Python do not meet
import importlib.metadata, sys
try:
    from packaging.requirements import Requirement
except ModuleNotFoundError:
    sys.exit("packaging (not there)")
pins = [Requirement(line.split(" #")[0].strip()) for line in open(sys.argv[1]) if line[0].isalnum()]
unmet = []
cpu = any(torch.version.endswith("+cpu") for torch in importlib.metadata.distributions(name="torch"))
for pin in [pin for pin in pins if not pin.marker or pin.marker.evaluate()]:
    if cpu and pin.name.startswith(("cuda-", "nvidia-", "triton")):
        continue
    try:
        found = importlib.metadata.version(pin.name)
        met = pin.specifier.contains(found, prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        found, met = "not", False
    unmet += [] if met else [f"{pin.name}{pin.specifier} ({found} there)"]
sys.exit(", ".join(unmet[:5]) + (f" and {len(unmet) - 5} more" if unmet[5:] else "") or 0)'

for active in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
  [ -n "$active" ] && [ -x "$active/bin/python" ] || continue
  differs=$("$active/bin/python" -c "$unmet" "$pins" 2>&1) && go_on "$active/bin/python" "$@"
  say "the active environment differs from requirements.txt: $differs; using .venv"
done
if cmp -s "$pins" "$stamp" && [ -x "$venv/bin/python" ]; then go_on "$venv/bin/python" "$@"; fi

# No environment yet: the Python that the pins were made for, then any other.
for python in python3.11 python3 python python3.12 python3.13 python3.14 none; do
  if "$python" -c "$usable" >/dev/null 2>&1; then break; fi
done
if [ "$python" = none ]; then
  say "Python 3.11 or newer with its venv module is needed, and there is none on the PATH."
  say "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.11),"
  say "or make the conda environment: conda env create -f environment.yml"
  exit 2
fi
if "$python" -c "$unmet" "$pins" 2>/dev/null; then go_on "$python" "$@"; fi
case " $* " in *" --help "* | *" -h "*)
  echo "The first call makes .venv (some minutes, gigabytes); from then on --help lists all options."
  sed -n '/^examples:/,/^"""/p' "$here/lib/study/runner.py" | sed '$d'
  exit 0 ;;
esac
if [ -e "$venv" ] && [ ! -e "$stamp" ]; then
  say "$venv does not meet requirements.txt and run_all.sh did not make it: move it away"
  exit 1
elif [ "${VIRTUAL_ENV:-}" = "$venv" ]; then
  say "requirements.txt has changed and .venv is active: deactivate it and start again"
  exit 1
fi
say "making .venv and installing what requirements.txt pins: some minutes, once (log: $log)"
rm -rf "$venv"
mkdir "$venv"
echo incomplete >"$stamp"
install() {
  "$python" -m venv "$venv" &&
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check install -r "$pins" &&
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps -e "$here"
}
if ! install >"$log" 2>&1 </dev/null; then
  tail -n 15 "$log" >&2
  say "installing failed; the whole log is $log"
  exit 1
fi
cp "$pins" "$stamp"
go_on "$venv/bin/python" "$@"
