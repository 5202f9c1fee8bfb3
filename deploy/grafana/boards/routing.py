"""The dashboard of difficulty and routing: difficulty, the plans that are made of it, and whether the policy still fits."""

from boards.kit import ADAPTER, BOTH, SHARE, STRATEGY, Board, Row, figure, heat_map, lines, mean, named, rate

DIFFICULTY = "ponder_difficulty"
AGREEMENT = "ponder_agreement"
PLANS = "ponder_plans_total"
OUTCOMES = "ponder_outcomes_total"
LIVE = "ponder_live_calibration"
BY_POLICY = f'{STRATEGY}, source="policy"'
BEFORE = f'{ADAPTER}, moment="before"'
AFTER = f'{ADAPTER}, moment="after"'
MOMENTS = f'{ADAPTER}, moment!="foreseen"'  # the deprecated name of `expected`
KNOWN = f'{ADAPTER}, bin!="0"'
WRONG = f'{KNOWN}, outcome="wrong"'
DIFFICULTY_DRIFT = f"job_model_adapter:ponder_difficulty:drift6h{{{ADAPTER}}}"
OUTCOME_DRIFT = f"job_model_adapter_source:ponder_outcomes:drift1d{{{ADAPTER}}}"
CORRECTED = "{{model}}, {{adapter}}, {{estimator}}, {{moment}}"
DRIFT_LIMITS = ((0.05, "orange"), (0.1, "red"))
ALERT_LIMITS = ((-0.1, "red"), (0.1, "red"))

NOW = Row(
    title="Now",
    panels=(
        figure(
            "Mean difficulty", SHARE,
            "Mean estimated probability that an answer is wrong, from the prompt alone; of requests whose policy estimates it.",
            mean(DIFFICULTY, BEFORE), decimals=0,
        ),
        figure(
            "Planned by a policy", SHARE,
            "Share of the plans that a calibrated policy chose; the others were chosen by the caller or the general estimator.",
            f"{rate(PLANS, BY_POLICY)} / {rate(PLANS, STRATEGY)}", decimals=0,
        ),
        figure(
            "Agreement", SHARE, "Mean share of a request's answers that equal the chosen one.",
            mean(AGREEMENT, ADAPTER), decimals=0,
        ),
        figure(
            "Largest difficulty drift", SHARE,
            "Mean difficulty estimated from the answers minus the mean estimated from the prompts, over six hours, of the "
            "adapter where they differ most. An alert watches it.",
            f"max(abs({DIFFICULTY_DRIFT}))", limits=DRIFT_LIMITS, decimals=1,
        ),
        figure(
            "Largest outcome drift", SHARE,
            "Share of answers that were wrong minus the expected share, over the answers of a day that an exact verifier or a "
            "caller checked, of the adapter where they differ most. An alert watches it.",
            f"max(abs({OUTCOME_DRIFT}))", limits=DRIFT_LIMITS, decimals=1,
        ),
        figure(
            "Ended by a budget", SHARE,
            "Share of the requests that ran out of tokens, FLOPs or time, and answered with what they had.",
            f"{rate('ponder_budget_exhausted_total')} / {rate('ponder_requests_total')}", limits=((0.05, "orange"), (0.2, "red")),
            decimals=1,
        ),
    ),
)  # fmt: skip

DIFFICULT = Row(
    title="Difficulty",
    panels=(
        heat_map(
            "Difficulty before", SHARE,
            "Estimated probability that an answer is wrong, from the prompt alone: how many requests fell into each tenth.",
            DIFFICULTY, BEFORE,
        ),
        heat_map(
            "Difficulty after", SHARE,
            "The same, estimated from the first answers. Where the answers are informative, it moves to both ends.",
            DIFFICULTY, AFTER,
        ),
        lines(
            "Mean difficulty by moment", SHARE,
            "`before`: from the prompt, all requests. `after`: from the first answers, where the stopping rule looked at them. "
            "`expected`: from the prompt, the requests that have an `after`. With a calibrated policy the last two are equal.",
            (mean(DIFFICULTY, MOMENTS, "moment"), "{{moment}}"), top=1,
        ),
    ),
)  # fmt: skip

PLANNING = Row(
    title="Plans",
    panels=(
        lines(
            "Plans by bin and strategy", "reqps", "Bin 1 is the easiest, 5 the hardest; bin 0 has no estimate of the difficulty.",
            (rate(PLANS, STRATEGY, "bin, strategy"), "bin {{bin}}: {{strategy}}"), stacked=True,
        ),
        lines(
            "Plans by effort", "reqps", "The effort that callers asked for; `medium` where they did not say.",
            (rate(PLANS, STRATEGY, "effort"), "{{effort}}"), stacked=True,
        ),
        lines(
            "Plans by source", "reqps",
            "Who chose the plan: the `caller`, the `policy` that was calibrated for the model or adapter, or the general "
            "estimator (`prior`) where there is none.",
            (rate(PLANS, STRATEGY, "source"), "{{source}}"), stacked=True,
        ),
        lines(
            "Plans by strategy", "reqps",
            "The strategies that were chosen.", (rate(PLANS, STRATEGY, "strategy"), "{{strategy}}"), stacked=True,
        ),
        lines(
            "Out of budget", "reqps", "Requests per second that a budget ended; `seconds` are missed deadlines.",
            (rate("ponder_budget_exhausted_total", BOTH, "budget"), "{{budget}}"), stacked=True,
            colours={"tokens": "blue", "flops": "purple", "seconds": "red"},
        ),
        lines(
            "Verifiers that did not answer", "reqps",
            "Requests per second in which likelihood took the place of a reward model that did not answer.",
            (rate("ponder_verifier_fallbacks_total", STRATEGY, "strategy"), "{{strategy}}"), stacked=True,
        ),
    ),
)  # fmt: skip

FITTING = Row(
    title="Does the policy still fit?",
    panels=(
        lines(
            "Difficulty drift", SHARE,
            "Mean difficulty estimated from the answers minus the mean estimated from the prompts, over six hours. Above zero plans "
            "are too small, below zero too large. An alert fires beyond 10 points either way, given 200 requests.",
            (named(DIFFICULTY_DRIFT), "{{model}}, {{adapter}}"), has_signs=True, limits=ALERT_LIMITS,
        ),
        lines(
            "Outcome drift", SHARE,
            "Share of answers that were wrong minus the expected share, over the answers of a day that an exact verifier (`rule`) or "
            "a caller (`feedback`) checked. Callers report wrong answers more often than right ones. An alert fires beyond 10 points "
            "either way, given 200 answers.",
            (named(OUTCOME_DRIFT), "{{model}}, {{adapter}}, {{source}}"), has_signs=True, limits=ALERT_LIMITS,
        ),
        lines(
            "Agreement by bin", SHARE,
            "Mean share of a request's answers that equal the chosen one. It falls from bin 1 to bin 5 if the bins are informative.",
            (mean(AGREEMENT, ADAPTER, "bin"), "bin {{bin}}"), top=1,
        ),
        lines(
            "Wrong by bin", SHARE,
            "Share of the checked answers that were wrong. It rises from bin 1 to bin 5 if the bins are informative.",
            (f"{rate(OUTCOMES, WRONG, 'bin')} / {rate(OUTCOMES, KNOWN, 'bin')}", "bin {{bin}}"), top=1,
        ),
        lines(
            "Expected to be wrong by bin", SHARE, "Share of the same answers that the policy expected to be wrong.",
            (f"{rate('ponder_outcomes_expected_total', KNOWN, 'bin')} / {rate(OUTCOMES, KNOWN, 'bin')}", "bin {{bin}}"), top=1,
        ),
        lines(
            "Checked answers", "cps",
            "Answers per second that an exact verifier (`rule`) or a caller (`feedback`) called right or wrong.",
            (rate(OUTCOMES, ADAPTER, "source, outcome"), "{{outcome}}, {{source}}"), stacked=True,
        ),
    ),
)  # fmt: skip

LEARNING = Row(
    title="What was learned",
    panels=(
        lines(
            "Intercept", "none",
            "What the server has learned to add to the log-odds of an estimate of difficulty. Above zero questions are harder than "
            "estimated. Far from zero for long: calibrate this model (again).",
            (named(f"ponder_correction_intercept{{{ADAPTER}}}"), CORRECTED), has_signs=True,
        ),
        lines(
            "Slope", "none",
            "What the server has learned to multiply the log-odds of an estimate of difficulty by. Below one the estimates are too "
            "sure of themselves, above one not sure enough.",
            (named(f"ponder_correction_slope{{{ADAPTER}}}"), CORRECTED),
        ),
        lines(
            "Observations", "none",
            "What a correction rests on: outcomes count 1, answers of live calibration 0.6, others that nobody judged 0.3, old ones less.",
            (named(f"ponder_correction_weight{{{ADAPTER}}}"), CORRECTED),
        ),
        lines(
            "Evidence against a policy", "none",
            "Logarithm of the evidence that a policy estimates worse than the general estimator. At 6.9 the policy is left until "
            "somebody puts or chooses one.",
            (named(f"ponder_policy_drift_evidence{{{ADAPTER}}}"), "{{model}}, {{adapter}}"), width=12,
        ),
        lines(
            "Policies that are left", "none",
            "1 where a policy is not used any more, since its estimates were worse than the general ones.",
            (named(f"ponder_policy_is_left{{{ADAPTER}}}"), "{{model}}, {{adapter}}"), width=12, top=1,
        ),
        lines(
            "Questions asked again", "none",
            "Questions of the traffic that live calibration asked again, by what became of them. Many that are stopped: slots are "
            "seldom free for long.",
            (f"sum by (outcome) (increase({LIVE}_questions_total{{{ADAPTER}}}[$__rate_interval]))", "{{outcome}}"), width=12,
        ),
        lines(
            "FLOPs of live calibration", SHARE,
            "FLOPs of live calibration as a share of those that requests spent. It is at most the share that the operator set.",
            (f"{rate(f'{LIVE}_flops_total', ADAPTER)} / {rate('ponder_flops_total', ADAPTER)}", "share"), width=12,
        ),
    ),
)  # fmt: skip

BOARD = Board(
    uid="ponder-routing",
    title="ponder: difficulty and routing",
    description="The distribution of difficulty, the plans that are made of it, and two measures of drift.",
    rows=(NOW, DIFFICULT, PLANNING, FITTING, LEARNING),
)
