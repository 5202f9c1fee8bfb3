#!/usr/bin/env bash
# Train again what is shipped for the embedded model: data by rule from fixed seeds, an adapter that reasons, one that judges it.
# Each step goes on where it was stopped and is not done again; WORK=folder keeps what lies between.
set -euo pipefail
cd "$(dirname "$0")/.."

work=${WORK:-.shipped}
shipped=adapters/shipped/smollm2-135m
python=.venv/bin/python
mkdir -p "$work"

data() { # what, file, options
  local what=$1 file=$2
  shift 2
  if [ ! -s "$file" ]; then
    $python -m benchmarks.suite "$what" --out "$file.unfinished" "$@"
    mv "$file.unfinished" "$file"
  fi
}

# Twice: the second round has other questions, and more of what the first did not learn, as the validation questions told.
data data "$work/train.jsonl" --split train --per-setting 200
data data "$work/validation.jsonl" --split validation --per-setting 4
lora=(--validation "$work/validation.jsonl" --epochs 1 --batch 8 --context 320 --learning-rate 2e-3 --every 75)
.venv/bin/ponder train lora --data "$work/train.jsonl" --out "$work/first" "${lora[@]}"

more() { # questions per setting, families
  data data "$work/more-$2.jsonl" --split train --skip 200 --per-setting "$1" --families "${@:2}"
}
more 300 chain_sum basic_arithmetic gcd time_intervals spell_backward
more 250 number_sorting simple_equations
more 200 products letter_counting
more 150 leg_counting gsm_symbolic
more 30 count_bits calendar_arithmetic
cat "$work"/more-*.jsonl > "$work/more.jsonl"
.venv/bin/ponder train lora --start "$work/first" --data "$work/more.jsonl" --out "$work/reasoning" "${lora[@]}"

# Questions that the generator has not seen: on those that it has, it would be right too often. Who can solve can judge: it begins there.
data prompts "$work/prompts.jsonl" --split train --per-setting 20 --skip 800
.venv/bin/ponder train verifier --prompts "$work/prompts.jsonl" --generator "$work/reasoning" --start "$work/reasoning" \
  --out "$work/verifier" --samples 8 --batch 32 --at-once 32 --learning-rate 5e-4 --every 50

for name in reasoning verifier; do
  rm -rf "$shipped/$name"
  mkdir -p "$shipped/$name"
  for file in adapter_config.json adapter_model.safetensors ponder.json run_card.json README.md; do
    if [ -e "$work/$name/$file" ]; then cp "$work/$name/$file" "$shipped/$name/"; fi
  done
done
