// OpenAI's own Node client against a gateway; prints what it saw as one line of JSON. usage: node client.mjs BASE_URL
import OpenAI, { BadRequestError, NotFoundError } from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is 17 * 3?" }];
const saw = {};

const { data, response } = await client.chat.completions.create({ model: "default", messages }).withResponse();
saw.plain = {
  text: data.choices[0].message.content, tier: data.cascade.tier, accepted: response.headers.get("x-cascade-accepted"),
  tokens: data.usage.total_tokens,
};

const stream = await client.chat.completions.create({ model: "default", messages, stream: true, stream_options: { include_usage: true } });
saw.stream = { text: "", chunks: 0 };
for await (const chunk of stream) {
  saw.stream.chunks += 1;
  saw.stream.text += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.choices[0]?.finish_reason) saw.stream.finish = chunk.choices[0].finish_reason;
  if (chunk.cascade) saw.stream.tier = chunk.cascade.tier;
  if (chunk.usage) saw.stream.tokens = chunk.usage.total_tokens;
}

const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } } }];
const called = await client.chat.completions.create({ model: "tools", messages, tools, tool_choice: "required" });
saw.tools = { finish: called.choices[0].finish_reason, call: called.choices[0].message.tool_calls[0].function };

const schema = { type: "object", properties: { answer: { type: "integer" } }, required: ["answer"], additionalProperties: false };
const format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
const parsed = await client.chat.completions.parse({ model: "json", messages, response_format: format });
saw.schema = { parsed: JSON.parse(parsed.choices[0].message.content), attempts: parsed.cascade.attempts.length };

saw.errors = {};
for (const [name, more, kind] of [["policy", { model: "nowhere" }, NotFoundError], ["field", { temperature: 9 }, BadRequestError]]) {
  try {
    await client.chat.completions.create({ model: "default", messages, ...more });
  } catch (error) {
    saw.errors[name] = { kind: error instanceof kind, status: error.status, code: error.code, param: error.param, said: error.message };
  }
}

saw.models = [];
for await (const model of client.models.list()) saw.models.push(model.id);
console.log(JSON.stringify(saw));
