"""The fields of OpenAI's, Anthropic's and vLLM's requests, and what becomes of each. Validation, documents and tests read this table.

A field that is honoured is a field of the body's class. The tables here have its meaning in a few words, and all
fields that are not honoured. `tests/api/test_fields.py` compares them with the classes of the installed `openai` and `vllm`.
"""

from app.api.field_table import Field, Table, Use, among, honoured, refused, without_effect

_SAMPLING = honoured(
    model="the base model or an adapter, with a strategy behind it if wanted",
    frequency_penalty="passed to the engine; refused by searches, which would count it anew at each step",
    presence_penalty="passed to the engine; refused by searches, which would count it anew at each step",
    repetition_penalty="passed to the engine",
    temperature="passed to the engine; 0 is refused by strategies that compare samples",
    top_p="passed to the engine",
    top_k="passed to the engine",
    min_p="passed to the engine",
    logit_bias="passed to the engine",
    max_tokens="most tokens of one answer",
    min_tokens="passed to the engine",
    n="answers in the reply, chosen by the strategy",
    seed="sample i of a request uses `seed` + i",
    stop="up to 16 texts that end the answer",
    stop_token_ids="tokens that end the answer",
    bad_words="passed to the engine",
    allowed_token_ids="passed to the engine",
    ignore_eos="passed to the engine",
    include_stop_str_in_output="passed to the engine",
    skip_special_tokens="passed to the engine",
    spaces_between_special_tokens="passed to the engine",
    repetition_detection="ends an answer that repeats itself; in place of the rule of most strategies; `max_pattern_size` 0: never",
    thinking_token_budget="most tokens that each answer to a chat thinks; -1 is no limit; without effect on completions",
    stream="server-sent events",
    stream_options="`include_usage` and `continuous_usage_stats`",
    response_format="the answer is JSON, with every strategy",
    structured_outputs="the answer follows a JSON schema, a regular expression, a choice or a grammar, with every strategy",
    guided_json="the former name of `structured_outputs.json`",
    guided_regex="the former name of `structured_outputs.regex`",
    guided_choice="the former name of `structured_outputs.choice`",
    guided_grammar="the former name of `structured_outputs.grammar`",
    truncate_prompt_tokens="keeps so many tokens of the prompt",
    truncation_side="the side from which the prompt is cut",
    add_special_tokens="adds the tokenizer's special tokens to the prompt",
    prompt_logprobs="log-probabilities of the prompt's tokens; not in a stream",
    return_token_ids="the ids of the tokens of the prompt and the answer",
    return_tokens_as_token_ids="tokens of log-probabilities as `token_id:…`",
    cache_salt="shares cached prefixes only with requests of the same salt and key",
    request_id="the id of the request, like the header `X-Request-Id`",
    ponder="the strategy, its parameters, the budget and the effort",
)

_BOOKKEEPING = without_effect(
    user="for the caller's own records",
    metadata="for the caller's own records",
    store="only the Responses API keeps answers",
    service_tier="there is one tier",
    safety_identifier="for the caller's own records",
    session_id="prefixes are cached without it",
    prompt_cache_key="prefixes are cached without it",
    prompt_cache_options="prefixes are cached without it",
    prompt_cache_retention="prefixes are cached without it",
    moderation="nothing is moderated",
    priority="requests of all keys are served fairly; the operator decides",
    length_penalty="belongs to vLLM's beam search",
    stream_interval="each token is sent at once",
    mm_payload="belongs to vLLM's render endpoints",
    return_mm_kwargs="belongs to vLLM's render endpoints",
    return_token_offsets="belongs to vLLM's render endpoints",
    routed_experts_prompt_start="belongs to vLLM's own replies",
)

_REFUSED = refused(
    use_beam_search='vLLM\'s beam search is not served; ask for {"ponder": {"strategy": "beam_search"}}',
    logprob_token_ids="log-probabilities of chosen tokens are not served; ask for `logprobs`",
    kv_transfer_params="only the operator may move a KV cache",
    ec_transfer_params="only the operator may move an encoder cache",
    vllm_xargs="extensions of vLLM are not open to clients",
    watermarking="answers are not watermarked",
)

_COMMON = {**_SAMPLING, **_BOOKKEEPING, **_REFUSED}

CHAT: Table = {
    **_COMMON,
    **honoured(
        messages="the conversation",
        max_completion_tokens="most tokens of one answer",
        logprobs="log-probabilities of the answer's tokens",
        top_logprobs="up to 20 alternatives for each token",
        tools="functions that the model may call",
        tool_choice="`none`, `auto`, `required`, one function, or the functions that are allowed",
        parallel_tool_calls="`false` keeps the first call of an answer",
        functions="the former form of `tools`; the reply has `function_call`",
        function_call="the former form of `tool_choice`",
        reasoning_effort="goes to the chat template, and sets `ponder.effort` where that is not given; `none` switches thinking off",
        include_reasoning="`false` leaves the reasoning out of the reply, with its tokens and their log-probabilities",
        chat_template_kwargs="variables of the chat template; names of arguments of what renders it are refused",
        add_generation_prompt="`false` renders the conversation without the opening of an answer",
        continue_final_message="the answer continues the last message, with every strategy",
        documents="documents for the chat template",
        echo="the answer begins with the last message where the model continues it",
        return_prompt_text="the rendered prompt, as `prompt_text`",
        store="`false` keeps the question out of live calibration; only the Responses API keeps answers",
    ),
    **without_effect(
        verbosity="say in the prompt how long the answer should be",
        prediction="the engine needs no predicted output",
        web_search_options="the model has no access to the web",
        audio="belongs to `modalities` with audio",
    ),
    **refused(
        chat_template="a template of the client could run without end; use `chat_template_kwargs`",
        media_io_kwargs="only the operator may set how media are read",
        mm_processor_kwargs="only the operator may set how media are read",
    ),
    "modalities": Field(Use.REFUSED, "only text is generated", lambda value: value in ([], ["text"])),
}

COMPLETION: Table = {
    **_COMMON,
    **honoured(
        prompt="one or several texts, or lists of token ids",
        logprobs="log-probabilities of up to 20 alternatives for each token",
        echo="the text begins with the prompt",
        best_of="the likeliest of so many candidates",
    ),
    **refused(
        suffix="the model cannot fill in a text before a suffix",
        prompt_embeds="embeddings are not accepted as a prompt; send text or token ids",
    ),
}

# The fields of other requests that chat completions have too, with the same meaning.
RESPONSES_AS_IN_CHAT = (
    "model", "temperature", "top_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "top_k", "min_p",
    "logit_bias", "seed", "stop", "stop_token_ids", "ignore_eos", "skip_special_tokens", "include_stop_str_in_output",
    "include_reasoning", "structured_outputs", "chat_template_kwargs", "cache_salt", "request_id", "ponder",
    "parallel_tool_calls", "user", "service_tier", "safety_identifier", "session_id", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "moderation", "priority", "mm_payload", "return_mm_kwargs",
    "watermarking", "media_io_kwargs", "mm_processor_kwargs", "vllm_xargs", "kv_transfer_params", "ec_transfer_params",
)  # fmt: skip

_TOKENIZE_AS_IN_CHAT = (
    "tools", "add_generation_prompt", "chat_template_kwargs", "chat_template", "media_io_kwargs", "mm_processor_kwargs",
)  # fmt: skip

_MESSAGES_AS_IN_CHAT = (
    "model", "max_tokens", "temperature", "top_p", "top_k", "stream", "chat_template_kwargs", "cache_salt", "ponder", "store",
    "metadata", "service_tier", "mm_payload", "return_mm_kwargs", "ec_transfer_params", "kv_transfer_params", "vllm_xargs",
    "watermarking",
)  # fmt: skip

RESPONSES: Table = {
    **among(CHAT, *RESPONSES_AS_IN_CHAT),
    **honoured(
        input="a text, or items: messages, function calls and their outputs, references to stored items",
        instructions="a system message before the input; not kept for the next response",
        previous_response_id="the response whose conversation goes on",
        background="runs without a connection; the reply is polled",
        store="`false` keeps nothing of the response, nor of the question",
        stream="server-sent events, of OpenAI's types",
        include="`message.output_text.logprobs`; other values have no effect",
        max_output_tokens="most tokens of one answer",
        metadata="up to 16 texts, returned with the response",
        reasoning="`effort` goes to the chat template, and sets `ponder.effort` where that is not given; `none` switches thinking off",
        text="`format`: text, a JSON object, or JSON that follows a schema; `verbosity` has no effect",
        tools="functions that the model may call; other tools are left out, and named in `ponder.notes`",
        tool_choice="`none`, `auto`, `required`, one function, or the functions that are allowed",
        top_logprobs="up to 20 alternatives for each token",
        truncation="`auto` leaves out the oldest items of a prompt that is too long; `disabled`, the default, refuses it",
    ),
    **without_effect(
        stream_options="events are not padded",
        max_tool_calls="limits tools that the server itself would run",
        background_options="belongs to OpenAI's own service",
        access_programs="belongs to OpenAI's own service",
        client_metadata="for the caller's own records",
        context_management="nothing is compacted",
        image="belongs to tools that make images",
        enable_response_messages="belongs to vLLM's own replies",
    ),
    **refused(
        conversation="conversations are not kept; continue a response with `previous_response_id`",
        prompt="prompt templates are not kept; send `instructions` and `input`",
        previous_input_messages="send the earlier items in `input`",
    ),
}

TOKENIZE: Table = {
    **honoured(
        model="the base model or an adapter, which all have one tokenizer",
        prompt="a text",
        messages="a conversation, in place of a text",
        add_special_tokens="adds the tokenizer's special tokens; by default to a text, and not to a conversation",
        continue_final_message="renders the last message so that it can be continued",
        return_token_strs="also returns each token as its tokenizer writes it",
    ),
    **among(CHAT, *_TOKENIZE_AS_IN_CHAT),
}

MESSAGES: Table = {
    **honoured(
        messages="the conversation; the answer continues a last message of the assistant",
        system="the system prompt",
        stop_sequences="up to 16 texts that end the answer",
        tools="functions that the caller runs; tools of Anthropic's servers are skipped, and named in `ponder.notes`",
        tool_choice="`auto`, `any`, `tool` or `none`, and `disable_parallel_tool_use`",
        thinking="`enabled` and `adaptive` show the thinking; `budget_tokens` is the most that each answer thinks, and what a search may "
        "generate beyond `max_tokens`; `disabled` switches thinking off",
        output_config="`effort`, and a JSON schema as `format`",
    ),
    **among(CHAT, *_MESSAGES_AS_IN_CHAT),
    **without_effect(
        betas="the header `anthropic-beta` is accepted",
        billing_policy="nothing is billed",
        cache_control="prefixes are cached without it",
        compaction="the conversation is read as it is sent",
        container="this server runs no code",
        context_management="the conversation is read as it is sent",
        diagnostics="the reply's `ponder` object tells what was done",
        fallback_credit_token="nothing is billed",
        fallbacks="the model that is asked answers",
        inference_geo="there is one place",
        speed="there is one speed",
        user_profile_id="for the caller's own records",
        workspace_id="for the caller's own records",
    ),
    **refused(
        mcp_servers="this server calls no other servers; run the tools yourself and send them as `tools`",
        thread="messages are not kept; send the whole conversation",
    ),
}
