"""How hard questions look, what is planned for them, and whether the policy that says so still fits."""

from boards.kit import ADAPTER, BOTH, SHARE, STRATEGY, Board, Row, clouds, figure, lines, mean, named, rate

DIFFICULTY = "ponder_difficulty"
AGREEMENT = "ponder_agreement"
PLANS = "ponder_plans_total"
OUTCOMES = "ponder_outcomes_total"
BY_POLICY = f'{STRATEGY}, source="policy"'
BEFORE = f'{ADAPTER}, moment="before"'
AFTER = f'{ADAPTER}, moment="after"'
KNOWN = f'{ADAPTER}, bin!="0"'
WRONG = f'{KNOWN}, outcome="wrong"'
OWN_DRIFT = f"job_model_adapter:ponder_difficulty:drift6h{{{ADAPTER}}}"
JUDGED_DRIFT = f"job_model_adapter_source:ponder_outcomes:drift1d{{{ADAPTER}}}"
A_LOT = ((0.05, "orange"), (0.1, "red"))
ALERTS = ((-0.1, "red"), (0.1, "red"))

NOW = Row(
    title="Now",
    panels=(
        figure(
            "Mean difficulty", SHARE,
            "Estimated probability of being wrong, by the prompt alone; of requests whose policy can tell.",
            mean(DIFFICULTY, BEFORE), decimals=0,
        ),
        figure(
            "Planned by a policy", SHARE,
            "Share of the plans that a calibrated policy made; the others are the caller's or the prior's.",
            f"{rate(PLANS, BY_POLICY)} / {rate(PLANS, STRATEGY)}", decimals=0,
        ),
        figure(
            "Agreement", SHARE, "Mean share of a request's answers that give the one that was chosen.",
            mean(AGREEMENT, ADAPTER), decimals=0,
        ),
        figure(
            "Farthest off, by its own look", SHARE,
            "Difficulty after a look at the answers less what the prompt foresaw, of six hours; the adapter that is "
            "farthest off. An alert watches it.",
            f"max(abs({OWN_DRIFT}))", limits=A_LOT, decimals=1,
        ),
        figure(
            "Farthest off, as judged", SHARE,
            "Share of wrong answers less what was foreseen, of the answers of a day that a rule or a caller judged; "
            "the farthest off. An alert watches it.",
            f"max(abs({JUDGED_DRIFT}))", limits=A_LOT, decimals=1,
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
        clouds(
            "Difficulty before", SHARE,
            "Estimated probability of being wrong, by the prompt alone: how many requests fell into each tenth.",
            DIFFICULTY, BEFORE,
        ),
        clouds(
            "Difficulty after", SHARE,
            "The same after the last look at the answers. A policy that learns something moves it to both ends.",
            DIFFICULTY, AFTER,
        ),
        lines(
            "Mean difficulty by moment", SHARE,
            "`before`: all requests, by the prompt. `foreseen`: the same, of those that were looked at again. `after`: "
            "what that look said. "
            "A calibrated policy has the last two in one place.",
            (mean(DIFFICULTY, ADAPTER, "moment"), "{{moment}}"), top=1,
        ),
    ),
)  # fmt: skip

PLANNING = Row(
    title="Plans",
    panels=(
        lines(
            "Plans by bin and strategy", "reqps", "Bin 1 is easiest, 5 hardest; in bin 0 nothing was measured.",
            (rate(PLANS, STRATEGY, "bin, strategy"), "bin {{bin}}: {{strategy}}"), stacked=True,
        ),
        lines(
            "Plans by effort", "reqps", "How much the caller asked for; `medium` who said nothing.",
            (rate(PLANS, STRATEGY, "effort"), "{{effort}}"), stacked=True,
        ),
        lines(
            "Plans by source", "reqps",
            "`caller` named a strategy, `policy` is one that was calibrated for the model or adapter, `prior` serves "
            "where there is none.",
            (rate(PLANS, STRATEGY, "source"), "{{source}}"), stacked=True,
        ),
        lines(
            "Plans by strategy", "reqps",
            "What the plans came to.", (rate(PLANS, STRATEGY, "strategy"), "{{strategy}}"), stacked=True,
        ),
        lines(
            "Out of budget", "reqps", "Requests per second that a budget ended; `seconds` are missed deadlines.",
            (rate("ponder_budget_exhausted_total", BOTH, "budget"), "{{budget}}"), stacked=True,
            colours={"tokens": "blue", "flops": "purple", "seconds": "red"},
        ),
        lines(
            "Verifiers that did not answer", "reqps",
            "Requests per second in which likelihood took the place of a verifier outside.",
            (rate("ponder_verifier_fallbacks_total", STRATEGY, "strategy"), "{{strategy}}"), stacked=True,
        ),
    ),
)  # fmt: skip

FITTING = Row(
    title="Does the policy still fit?",
    panels=(
        lines(
            "Drift by its own look", SHARE,
            "Mean difficulty after a look at the answers less what the prompts foresaw, of six hours. Above zero plans "
            "are too small, below too large; an alert fires beyond 10 points either way, of 200 requests.",
            (named(OWN_DRIFT), "{{model}}, {{adapter}}"), has_signs=True, limits=ALERTS,
        ),
        lines(
            "Drift as judged", SHARE,
            "Share of wrong answers less what was foreseen, of a day's answers that were judged, by a rule or by "
            "callers. Callers complain more often than they praise. An alert fires beyond 10 points either way, of 200 answers.",
            (named(JUDGED_DRIFT), "{{model}}, {{adapter}}, {{source}}"), has_signs=True, limits=ALERTS,
        ),
        lines(
            "Agreement by bin", SHARE,
            "Mean share of the answers that give the chosen one. It falls from bin 1 to bin 5 if bins tell anything.",
            (mean(AGREEMENT, ADAPTER, "bin"), "bin {{bin}}"), top=1,
        ),
        lines(
            "Wrong by bin", SHARE,
            "Share of the judged answers that were wrong. It rises from bin 1 to bin 5 if bins tell anything.",
            (f"{rate(OUTCOMES, WRONG, 'bin')} / {rate(OUTCOMES, KNOWN, 'bin')}", "bin {{bin}}"), top=1,
        ),
        lines(
            "Foreseen by bin", SHARE, "Share of the same answers that the policy expected to be wrong.",
            (f"{rate('ponder_outcomes_foreseen_total', KNOWN, 'bin')} / {rate(OUTCOMES, KNOWN, 'bin')}", "bin {{bin}}"), top=1,
        ),
        lines(
            "Judged answers", "cps",
            "Answers per second that somebody called right or wrong: a rule that does not err, or a caller.",
            (rate(OUTCOMES, ADAPTER, "source, outcome"), "{{outcome}}, {{source}}"), stacked=True,
        ),
    ),
)  # fmt: skip

BOARD = Board(
    uid="ponder-routing",
    title="ponder: difficulty and routing",
    description="The distribution of difficulty, the plans made of it, and two signs of drift.",
    rows=(NOW, DIFFICULT, PLANNING, FITTING),
)
