// Anthropic's package for Node, as its README begins: a message, a stream, a count, and a tool with its result.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ maxRetries: 0 });
const question = {
  model: "smollm2-135m",
  max_tokens: 48,
  temperature: 0,
  messages: [{ role: "user", content: "Count from one to ten." }],
};
const weather = {
  name: "get_weather",
  description: "The weather of a town.",
  input_schema: {
    type: "object",
    properties: { town: { type: "string", maxLength: 30 } },
    required: ["town"],
    additionalProperties: false,
  },
};
const whole = await client.messages.create(question);
let streamed = "";
const stream = client.messages.stream(question).on("text", (piece) => {
  streamed += piece;
});
const put = await stream.finalMessage();
const counted = await client.messages.countTokens({ model: question.model, messages: question.messages });

const asked = [{ role: "user", content: "What is the weather in Paris?" }];
const tools = { ...question, max_tokens: 128, tools: [weather] };
const called = await client.messages.create({ ...tools, messages: asked, tool_choice: { type: "any" } });
const use = called.content.find((block) => block.type === "tool_use");
const result = [{ type: "tool_result", tool_use_id: use.id, content: "It rains." }];
const after = await client.messages.create({
  ...tools,
  messages: [...asked, { role: "assistant", content: called.content }, { role: "user", content: result }],
});
const refused = await client.messages.create({ ...question, model: "no-such-model" }).catch((error) => error);
process.stdout.write(
  JSON.stringify({
    whole: whole.content[0].text,
    streamed,
    final: put.content[0].text,
    counted: counted.input_tokens,
    used: whole.usage.input_tokens + (whole.usage.cache_read_input_tokens ?? 0),
    call: [use.name, use.input],
    stop: called.stop_reason,
    after: after.stop_reason,
    refused: refused instanceof Anthropic.NotFoundError && refused.error.error.type,
  }),
);
