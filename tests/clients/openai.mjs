// OpenAI's JavaScript SDK: each function does one thing, and returns what test_openai_js.py looks at.
import OpenAI, { NotFoundError } from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];
const ask = { model: process.env.MODEL, messages, max_tokens: 8 };
// Greedy: now and then a sampled reply has a second call, or ends in the middle of one.
const call = { ...ask, max_tokens: 64, temperature: 0 };
const Person = z.object({ name: z.string().max(12), age: z.int().min(0).max(99) });
const parameters = { type: "object", properties: { city: { type: "string", enum: ["Paris", "Rome"] } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];

export async function chat() {
  const { message } = (await client.chat.completions.create(ask)).choices[0];
  const history = [...messages, message, { role: "user", content: "And goodbye." }];
  return (await client.chat.completions.create({ ...ask, messages: history })).choices[0].message.content;
}

export async function completions() {
  return (await client.completions.create({ model: ask.model, prompt: "The sea is", max_tokens: 8 })).choices[0].text;
}

const input = { model: ask.model, input: "Say hello.", max_output_tokens: 8 };

export async function responses() {
  const first = await client.responses.create(input);
  return (await client.responses.create({ ...input, input: "And goodbye.", previous_response_id: first.id })).output_text;
}

export async function responsesStream() {
  let text = "";
  for await (const event of await client.responses.create({ ...input, stream: true })) if (event.type === "response.output_text.delta") text += event.delta;
  return text;
}

export async function responsesParsed() {
  const format = { ...input, input: "Make up a person.", max_output_tokens: 64, temperature: 0, text: { format: zodTextFormat(Person, "person") } };
  return (await client.responses.parse(format)).output_parsed;
}

export async function responsesTools() {
  const weather = { type: "function", name: "get_weather", parameters: { ...parameters, additionalProperties: false }, strict: true };
  const reply = await client.responses.create({ ...input, max_output_tokens: 64, temperature: 0, tools: [weather], tool_choice: "required" });
  return JSON.parse(reply.output.at(-1).arguments);
}

export async function stream() {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) text += chunk.choices[0].delta.content ?? "";
  return text;
}

export async function streamHelper() {
  return client.chat.completions.stream(ask).finalContent();
}

export async function toolsCalled() {
  const reply = await client.chat.completions.create({ ...call, tools, tool_choice: "required" });
  return JSON.parse(reply.choices[0].message.tool_calls[0].function.arguments);
}

export async function toolsRun() {
  const getWeather = { name: "get_weather", parameters, parse: JSON.parse, function: ({ city }) => `It is sunny in ${city}.` };
  const runner = client.chat.completions.runTools({
    ...call, tools: [{ type: "function", function: getWeather }], tool_choice: { type: "function", function: { name: getWeather.name } },
  });
  return runner.finalFunctionToolCallResult();
}

export async function structuredOutput() {
  const format = { ...ask, messages: [{ role: "user", content: "Make up a person." }], max_tokens: 64, temperature: 0, response_format: zodResponseFormat(Person, "person") };
  return (await client.chat.completions.parse(format)).choices[0].message.parsed;
}

export async function strategyByName() {
  return (await client.chat.completions.create({ ...ask, model: `${ask.model}@best_of_n` })).ponder.strategy;
}

export async function strategyByBody() {
  return (await client.chat.completions.create({ ...ask, ponder: { strategy: "best_of_n", n: 2 } })).ponder.candidates.length;
}

export async function usage() {
  const reply = await client.chat.completions.create(ask);
  const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
  let last;
  for await (const chunk of stream) last = chunk.usage;
  return [reply.usage.completion_tokens, last.completion_tokens];
}

export async function errors() {
  try {
    await client.chat.completions.create({ ...ask, model: "nobody" });
  } catch (error) {
    return [error instanceof NotFoundError, error.code];
  }
}
