// What a newcomer may press first. Parameters suit the embedded model with the adapter that comes with it: it writes a step a line.

export const PREFERRED_MODEL = "reasoning";

export const EXAMPLES = [
  {
    label: "Beam search",
    strategy: "beam_search",
    question: "A shirt costs 20 dollars and a hat costs 8 dollars. What do 3 shirts and 2 hats cost?",
    parameters: { verifier: "equations", separator: "\n", n: 8, expand: 4 },
  },
  {
    label: "Monte Carlo tree search",
    strategy: "mcts",
    question: "What is 12 * 15 - 40?",
    parameters: { verifier: "equations", separator: "\n", iterations: 12, expand: 3 },
  },
  {
    label: "Vote",
    strategy: "self_consistency",
    question: "Ann has 24 sweets. She gives half of them to Ben and eats 3. How many are left?",
    parameters: { n: 12 },
  },
  { label: "Let ponder decide", strategy: "auto", question: "What is 17 * 23 + 45?", parameters: {} },
];
