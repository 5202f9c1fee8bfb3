// Vercel's AI SDK with its provider for compatible servers: each function returns what test_ai_sdk.py looks at.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { BASE_URL: baseURL, MODEL } = process.env;
const ponder = createOpenAICompatible({ name: "ponder", baseURL, apiKey: "none", includeUsage: true, supportsStructuredOutputs: true });
const ask = { model: ponder(MODEL), prompt: "Say hello.", maxOutputTokens: 8, maxRetries: 0 };
const person = z.object({ name: z.string().max(12), age: z.int().min(0).max(99) });
// Greedy: now and then a sampled reply has a second call, or ends in the middle of one.
const call = { ...ask, maxOutputTokens: 64, temperature: 0 };
const weather = tool({
  description: "Current weather of a city.",
  inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }),
  execute: async ({ city }) => `It is sunny in ${city}.`,
});

export async function chat() {
  const { response } = await generateText(ask);
  const messages = [{ role: "user", content: "Say hello." }, ...response.messages, { role: "user", content: "And goodbye." }];
  return (await generateText({ ...ask, prompt: undefined, messages })).text;
}

export async function stream() {
  let text = "";
  for await (const piece of streamText(ask).textStream) text += piece;
  return text;
}

export async function tools() {
  const called = { ...call, tools: { weather }, toolChoice: "required", stopWhen: stepCountIs(1) };
  return (await generateText(called)).toolResults[0].output;
}

export async function toolsStreamed() {
  const named = { type: "tool", toolName: "weather" };
  return (await streamText({ ...call, tools: { weather }, toolChoice: named }).toolResults)[0].output;
}

export async function structuredOutput() {
  return (await generateText({ ...ask, prompt: "Make up a person.", maxOutputTokens: 64, temperature: 0, output: Output.object({ schema: person }) })).output;
}

export async function strategyByName() {
  return (await generateText({ ...ask, model: ponder(`${MODEL}@best_of_n`) })).usage.outputTokenDetails.reasoningTokens;
}

export async function strategyByBody() {
  const providerOptions = { ponder: { ponder: { strategy: "best_of_n", n: 2 } } };
  return (await generateText({ ...ask, providerOptions })).usage.outputTokenDetails.reasoningTokens;
}

export async function usage() {
  return [(await generateText(ask)).usage.outputTokens, (await streamText(ask).usage).outputTokens];
}

export async function errors() {
  try {
    await generateText({ ...ask, model: ponder("nobody") });
  } catch (error) {
    return [APICallError.isInstance(error), error.statusCode, error.message];
  }
}
