#!/usr/bin/env bash
# Measure again the policy of the shipped adapter. Goes on where it was stopped; WORK=folder keeps what lies between.
# With "judge": answer the test questions too, and say what the policy is worth on them.
set -euo pipefail
cd "$(dirname "$0")/.."

adapter=adapters/shipped/smollm2-135m/reasoning
version=$(sha256sum "$adapter/adapter_model.safetensors")
work=${WORK:-.policy/${version:0:8}}
mkdir -p "$work" app/routing/shipped

measure() { # split: questions, and answers to them
  if [ ! -s "$work/$1.jsonl" ]; then
    .venv/bin/python -m benchmarks.policy_questions "$1" "$work/$1.unfinished"
    mv "$work/$1.unfinished" "$work/$1.jsonl"
  fi
  .venv/bin/ponder calibrate --data "$work/$1.jsonl" --out "$work/$1" --adapter "$adapter" --concurrency 12
}

measure fit
cp "$work/fit/policy.json" app/routing/shipped/reasoning.json
if [ "${1:-}" = judge ]; then
  measure test
  .venv/bin/python -m benchmarks.policy "$work/fit" "$work/test" --name reasoning
fi
