// Asks the server at BASE_URL through OpenAI's own client, and prints what it saw as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "none", maxRetries: 0, timeout: 120_000 });
const model = (await client.models.list()).data[0].id;
const question = { model, temperature: 0, max_tokens: 48 };
const add = [{ role: "user", content: "Write a Python function named add that returns the sum of two numbers." }];
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: {
      type: "object",
      properties: { town: { type: "string", maxLength: 30 } },
      required: ["town"],
      additionalProperties: false,
    },
  },
};
const person = {
  type: "object",
  properties: { name: { type: "string", maxLength: 30 }, age: { type: "integer", minimum: 0, maximum: 150 } },
  required: ["name", "age"],
  additionalProperties: false,
};

async function refused(ask) {
  try {
    await ask();
    return null;
  } catch (error) {
    const { status, code, param, requestID } = error;
    return { kind: error.constructor.name, status, code, param, requestID };
  }
}

const whole = await client.chat.completions.create({ ...question, messages: add });

let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...question, messages: add, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}

const called = await client.chat.completions.create({
  ...question,
  max_tokens: 128,
  messages: [{ role: "user", content: "What is the weather in Paris?" }],
  tools: [weather],
  tool_choice: "required",
  parallel_tool_calls: false,
});

const structured = await client.chat.completions.create({
  ...question,
  max_tokens: 128,
  messages: [{ role: "user", content: "Ada is 36 years old." }],
  response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema: person } },
});

const text = await client.completions.create({ ...question, prompt: "1, 2, 3, 4,", max_tokens: 8 });

const endless = await client.chat.completions
  .create({
    ...question,
    messages: add,
    max_tokens: 4000,
    ignore_eos: true,
    stream: true,
  })
  .withResponse();
for await (const _ of endless.data) break; // leaving the loop ends the request

const seen = {
  model,
  retrieved: (await client.models.retrieve(model)).id,
  whole: whole.choices[0].message.content,
  requestID: whole._request_id,
  streamed,
  finish: called.choices[0].finish_reason,
  calls: called.choices[0].message.tool_calls,
  structured: JSON.parse(structured.choices[0].message.content),
  text: text.choices[0].text,
  bad: await refused(() => client.chat.completions.create({ ...question, messages: add, temperature: 9 })),
  missing: await refused(() => client.models.retrieve("gpt-4")),
  left: endless.request_id,
};
process.stdout.write(JSON.stringify(seen));
