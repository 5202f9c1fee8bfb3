"""Ask a model from Python, without a server.

`ponder.Ponder` loads the model into this process and works in a notebook too; programs with an event loop use `ponder.load`. The
strategies, budgets and accounts are those of the server.

Run:     python examples/python_api.py
Prints:  the answer with its cost, every candidate, the plan of another question, and two answers that were computed together
"""

import ponder


def main() -> None:
    """Load the model, and ask it."""
    with ponder.Ponder("smollm2-135m", kv_cache_gib=1) as model:  # memory for the KV cache on CPU
        answer = model.ask(
            "Calculate 17 + 25 + 8.",
            model="reasoning",
            strategy="self_consistency",
            n=4,
            max_tokens=64,
            seed=1,
            budget=ponder.Budget(tokens=400, seconds=120),
        )
        print(
            f"{answer.text!r}: {answer.stop_reason}, {answer.tokens} tokens, {answer.flops / 1e9:.1f} GFLOP, {answer.seconds:.1f} s"
        )
        for one in answer.candidates:
            print(f"candidate {one.candidate.index}: {one.answer}, score {one.score}")

        print("plan:", model.explain("Calculate 9 * 8 - 7.", model="reasoning")["plan"]["why"])

        questions = ["Calculate 2 + 3.", "Calculate 20 + 30."]
        for one in model.ask_all(questions, model="reasoning", strategy="direct", max_tokens=48, seed=1):
            print("together:", repr(one.text))


if __name__ == "__main__":  # vLLM starts processes that import this file
    main()
