// What a newcomer may press first. Parameters suit the embedded model with the adapter that comes with it: it writes a step a line, and is
// so sure of itself that only a high temperature makes the steps differ. With other models the examples work, and may be less telling.

export const PREFERRED_MODEL = "reasoning";

export const EXAMPLES = [
  {
    label: "Beam search",
    strategy: "beam_search",
    question: "How many legs are there in total if you have 7 cows, 12 spiders, 9 crickets and 4 birds?",
    parameters: { verifier: "equations", separator: "\n", n: 8, expand: 2, step_tokens: 48 },
    request: { temperature: 1.2, max_tokens: 200 },
  },
  {
    label: "Monte Carlo tree search",
    strategy: "mcts",
    question: "How many legs are there in total if you have 3 dogs, 4 spiders, 2 humans and 5 birds?",
    parameters: { verifier: "equations", separator: "\n", iterations: 10, expand: 3, step_tokens: 48 },
    request: { temperature: 1.2, max_tokens: 200 },
  },
  {
    label: "Vote",
    strategy: "self_consistency",
    question: "State the final answer to the following arithmetic problem: 15 + 41 + 24 + 91 + 23 =",
    parameters: { n: 12, filter: "equations" },
    request: { max_tokens: 200 },
  },
  { label: "Let ponder decide", strategy: "auto", question: "What is 17 * 23 + 45?", parameters: {} },
];
