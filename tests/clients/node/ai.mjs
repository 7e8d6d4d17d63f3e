// The Vercel AI SDK against a gateway; prints what it read as one line of JSON. usage: node ai.mjs URL INTERFACE
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
const [url, name] = process.argv.slice(2);
const settings = { baseURL: `${url}/v1`, apiKey: "none" };
const openai = createOpenAI(settings);
const model = {
  responses: () => openai.responses("gpt-4o"),
  "chat completions": () => openai.chat("gpt-4o"),
  "Anthropic's messages": () => createAnthropic(settings)("gpt-4o"),
}[name]();
const about = { model, maxRetries: 0, prompt: "What is 17 * 3?" };
const read = {};

read.plain = (await generateText(about)).text;

const stream = streamText({ ...about, onError: ({ error }) => { throw error; } });
read.chunks = 0;
read.streamed = "";
for await (const piece of stream.textStream) {
  read.chunks += 1;
  read.streamed += piece;
}

const weather = tool({
  description: "Returns the weather in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `rain in ${city}`,
});
read.tools = (await generateText({ ...about, prompt: "How is the weather in Ulm?", tools: { weather }, stopWhen: stepCountIs(3) })).text;

const output = Output.object({ schema: z.object({ answer: z.number() }) });
read.schema = (await generateText({ ...about, output })).output;
console.log(JSON.stringify(read));
