"""The engine over vLLM. Only this package imports vLLM, whose inner paths move with every release (here: 0.32).

Import nothing of it before the environment is prepared (`app.engine.build`): vLLM reads its environment when it is imported.

engine.py     the `Engine` itself: start, generate, halt, metrics
options.py    what an operator can set        arguments.py  how that becomes vLLM's own arguments
rendering.py  from a request to a prompt      sampling.py   the sampling parameters of one branch
dialect.py    a chat template, its parsers    thinking*.py  how a model marks its thinking, where it ends
*_parsers.py  which parsers fit a model       parser_rules.py  what both tables are made of
outputs.py    from vLLM's outputs to ours     replies.py    vLLM's parsers of tool calls and reasoning
lora.py       LoRA adapters in the engine     errors.py     from vLLM's errors to ours
drafting.py   how tokens are drafted          images.py     images in prompts
"""
