#!/usr/bin/env bash
# Calibrate the policy of the shipped adapter anew. It resumes where it was stopped; WORK=folder keeps the pools.
# With "evaluate": fill a pool of the test questions too, and evaluate the policy on it.
set -euo pipefail
cd "$(dirname "$0")/.."

adapter=adapters/shipped/smollm2-135m/reasoning
version=$(sha256sum "$adapter/adapter_model.safetensors")
work=${WORK:-.policy/${version:0:8}}
mkdir -p "$work" app/routing/shipped

measure() { # split, samples that backtrack: write its questions, and calibrate on them
  if [ ! -s "$work/$1.jsonl" ]; then
    .venv/bin/python -m benchmarks.policy_questions "$1" "$work/$1.unfinished"
    mv "$work/$1.unfinished" "$work/$1.jsonl"
  fi
  .venv/bin/ponder calibrate --data "$work/$1.jsonl" --out "$work/$1" --adapter "$adapter" --concurrency 12 \
    --backtracked "$2" --searches "" --exits 0
}

measure fit 7
cp "$work/fit/policy.json" app/routing/shipped/reasoning.json
if [ "${1:-}" = evaluate ]; then
  measure test 15 # halves of them are compared
  .venv/bin/python -m benchmarks.policy "$work/fit" "$work/test" --name reasoning
  .venv/bin/python -m benchmarks.knowable "$work/test" --name reasoning
fi
