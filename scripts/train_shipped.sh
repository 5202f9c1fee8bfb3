#!/usr/bin/env bash
# Train again what is shipped for the embedded model: data by rule from fixed seeds, rounds of LoRA.
# Each step goes on where it was stopped and is not done again; WORK=folder keeps what lies between.
set -euo pipefail
cd "$(dirname "$0")/.."

# other questions, another folder: what was made of the old ones is not gone on from
made_by=$(cat scripts/train_shipped.sh benchmarks/suite/{checked_*,checks,expressions,families,questions,slips,steps,thoughts,wording,worked_*}.py | sha256sum)
work=${WORK:-.shipped/${made_by:0:8}}
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

questions() { # file, questions per setting, skipped, families
  data data "$work/$1-$4.jsonl" --split train --per-setting "$2" --skip "$3" --families "${@:4}"
}

# More questions of what takes long to learn, as the validation questions told of earlier rounds. The trainer shuffles.
questions train 450 0 chain_sum basic_arithmetic
questions train 400 0 gcd spell_backward simple_equations
questions train 350 0 time_intervals number_sorting
questions train 300 0 products
questions train 200 0 letter_counting leg_counting gsm_symbolic calendar_arithmetic
questions train 80 0 count_bits
cat "$work"/train-*.jsonl > "$work/train.jsonl"
data data "$work/validation.jsonl" --split validation --per-setting 4
lora=(--validation "$work/validation.jsonl" --epochs 1 --batch 8 --context 320)
.venv/bin/ponder train lora --data "$work/train.jsonl" --out "$work/first" "${lora[@]}" --learning-rate 2e-3 --every 75

# A short second round on other questions, most of them of what the first has learned least.
questions more 90 80 count_bits
questions more 80 200 letter_counting
questions more 70 200 gsm_symbolic
questions more 80 400 spell_backward gcd
questions more 80 350 number_sorting
questions more 40 400 simple_equations
questions more 40 450 basic_arithmetic
questions more 50 300 products
questions more 30 450 chain_sum
questions more 30 200 leg_counting
questions more 20 350 time_intervals
questions more 20 200 calendar_arithmetic
cat "$work"/more-*.jsonl > "$work/more.jsonl"
.venv/bin/ponder train lora --start "$work/first" --data "$work/more.jsonl" --out "$work/reasoning" "${lora[@]}" \
  --learning-rate 1e-3 --every 20

# An adapter that thinks goes on from it: what it solves is checked before it is answered.
thoughts() { # file, questions per setting, skipped, bins, options, families
  data thoughts "$work/thoughts-$1.jsonl" --per-setting "$2" --skip "$3" --bins $4 $5 --families "${@:6}"
}

numbers="chain_sum basic_arithmetic simple_equations gcd time_intervals letter_counting"
thoughts easy 40 0 "1 2" "" $numbers products leg_counting number_sorting
thoughts hard 30 0 3 "" $numbers
thoughts words 20 0 "1 2 3" "" calendar_arithmetic spell_backward
thoughts stories 150 0 "1 2 3" "" gsm_symbolic
cat "$work"/thoughts-{easy,hard,words,stories}.jsonl > "$work/thoughts.jsonl"
data thoughts "$work/thinking-validation.jsonl" --split validation --per-setting 1 --bins 2 --plain 0
think=(--chat-template benchmarks/suite/thinking.jinja --validation "$work/thinking-validation.jsonl" --batch 4 --context 320)
.venv/bin/ponder train lora --start "$work/reasoning" --data "$work/thoughts.jsonl" --out "$work/thinking-first" "${think[@]}" \
  --max-steps 110 --learning-rate 1e-3 --every 20

# A longer round on other questions, of which more solutions have a slip: to find one is learned last.
mended="--mended 0.45"
thoughts more-easy 90 40 "1 2" "$mended" $numbers products leg_counting number_sorting
thoughts more-hard 50 30 3 "$mended" $numbers
thoughts more-words 50 20 "1 2 3" "$mended" calendar_arithmetic spell_backward
thoughts more-stories 300 150 "1 2 3" "$mended" gsm_symbolic
cat "$work"/thoughts-more-*.jsonl > "$work/more-thoughts.jsonl"
.venv/bin/ponder train lora --start "$work/thinking-first" --data "$work/more-thoughts.jsonl" --out "$work/thinking" "${think[@]}" \
  --max-steps 300 --learning-rate 1e-3 --every 50

for name in reasoning thinking; do
  rm -rf "${shipped:?}/$name"
  mkdir -p "$shipped/$name"
  cp "$work/$name"/{adapter_config.json,adapter_model.safetensors,run_card.json,README.md} "$shipped/$name/"
done
cp "$work/thinking/chat_template.jinja" "$shipped/thinking/"
