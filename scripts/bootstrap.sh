#!/usr/bin/env bash
# Make .venv with the locked dependencies; silent and instant when it is there already. `bootstrap.sh bench ray`: with what benchmarks need,
# and with Ray.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=locks/cpu.txt
if [ -e /proc/driver/nvidia/version ]; then lock=locks/cuda.txt; fi
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
install() { pip install --no-deps --no-compile "$@"; }

add_more() {
  local name
  for name in "$@"; do
    if cmp -s "locks/$name.txt" ".venv/.$name"; then continue; fi
    echo "installing $(grep -c == "locks/$name.txt") packages from locks/$name.txt" # one of bench.txt needs a C compiler
    pip install --no-deps --quiet --requirement "locks/$name.txt"
    cp "locks/$name.txt" ".venv/.$name"
  done
}

stamp=.venv/.installed
wanted=$(cat "$lock" pyproject.toml | cksum)
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  add_more "$@"
  exit 0
fi

find_python() {
  local name
  for name in python3.11 python3.12 python3.13 python3; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "ponder needs Python 3.11, 3.12 or 3.13" >&2
  exit 1
}

rm -f "$stamp" # an interrupted installation is not taken for a finished one
if [ ! -x .venv/bin/python ]; then
  python=$(find_python)
  echo "[1/4] making .venv with $("$python" --version)"
  "$python" -m venv .venv
fi

rest=.venv/requirements.txt
grep -v '+cpu$' "$lock" >"$rest"
if torch=$(grep '^torch==.*+cpu$' "$lock"); then
  echo "[2/4] installing $torch"
  # PyTorch keeps its CPU wheels in an index of its own. It is asked only where pip's own sources have none, and for torch only:
  # where it cannot be reached, each package that is looked up there costs seconds of retries.
  install --quiet "$torch" 2>/dev/null ||
    install --extra-index-url https://download.pytorch.org/whl/cpu "$torch"
fi
echo "[3/4] installing $(grep -c == "$rest") locked packages from $lock: some gigabytes, minutes the first time"
install --requirement "$rest" --progress-bar off | grep -v -E '^(Requirement already|  Downloading|Looking|Obtaining)' || true
install --quiet --requirement "$rest" # quick when all is there; fails here if something is not
echo "[4/4] installing ponder itself"
install --no-build-isolation --quiet --editable .
# pip would compile one file after the other. Some packages have templates that are no Python.
.venv/bin/python -m compileall -q -j 0 "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >/dev/null 2>&1 || true
echo "$wanted" >"$stamp"
add_more "$@"
echo "environment ready"
