#!/usr/bin/env bash
# Builds the wheel, installs it into an empty virtual environment, and searches from a folder outside
# the repository with a cost model, a space and a device of a stranger's. The cost model comes in as a
# file, as a module path, and by the entry point of a second package; all three must agree.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
unset PYTHONPATH

say() { printf '%4ss  %s\n' "$SECONDS" "$*"; }

say "building the wheels"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheels" "$root"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/plugin" "$root/tests/plugins/acme_npu"
"$python" "$here/wheel_contents.py" "$work"/wheels/hwnas-*.whl

say "installing hwnas into an empty environment"
"$python" -m venv "$work/venv"
bin=$work/venv/bin
"$bin/pip" install --quiet -c "$root/constraints.txt" torch==2.13.0
"$bin/pip" install --quiet -c "$root/constraints.txt" "$work"/wheels/hwnas-*.whl

# A folder with names that could hide ours, as users have them; without __init__.py they do not.
mkdir -p "$work/outside/devices" "$work/outside/cost_models"
cd "$work/outside"
cp "$here/outside/translator.py" "$here/outside/capacity.py" .
cp "$here/outside/acme-board.yaml" devices/
cp "$root/tests/plugins/acme_npu/src/acme_npu/latency.py" npu.py

say "help and lists"
"$bin/hwnas" --help > help.txt
"$bin/hwnas" devices list > devices.txt
grep -q jetson-orin devices.txt
grep -q acme-board devices.txt
"$bin/hwnas" costs list > costs.txt
grep -q bitops costs.txt
"$bin/hwnas" devices check acme-board
"$bin/hwnas" spaces check ./translator.py
"$bin/hwnas" costs check ./npu.py --space ./translator.py --device acme-board

search() { # name of the run, spec of the cost model
  "$bin/hwnas" search --space ./translator.py --device acme-board --objective "$2" \
    --objective ./capacity.py --population 16 --max-evaluations 64 --seed 3 --out "$1" --quiet \
    > "$1.txt"
  test -s "$1/report.html"
  test -s "$1/front.csv"
}

say "search with a file"
search as_file ./npu.py

say "search with a module path"
mkdir -p "$work/modules/acme_modules"
cp npu.py "$work/modules/acme_modules/latency.py"
PYTHONPATH=$work/modules search as_module acme_modules.latency:AcmeLatency

say "search with the entry point of a second package"
"$bin/pip" install --quiet --no-deps "$work"/plugin/*.whl
"$bin/hwnas" costs list > costs.txt
grep -q acme_latency costs.txt
search as_entry_point acme_latency

cmp as_file/front.csv as_module/front.csv
cmp as_file/front.csv as_entry_point/front.csv
say "the three fronts are equal: $(($(wc -l < as_file/front.csv) - 1)) designs"
