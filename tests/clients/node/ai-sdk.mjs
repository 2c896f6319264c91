// The AI SDK: its OpenAI provider, which speaks /v1/responses, and the one for servers that are like OpenAI's.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = process.env.OPENAI_BASE_URL;
const providers = {
  responses: createOpenAI({ baseURL, apiKey: "none" })("smollm2-135m"),
  chat: createOpenAICompatible({ name: "ours", baseURL, apiKey: "none", supportsStructuredOutputs: true })(
    "smollm2-135m",
  ),
};
const settings = { temperature: 0, maxOutputTokens: 96, maxRetries: 0 };
const seen = {};
for (const [name, model] of Object.entries(providers)) {
  const whole = await generateText({ model, prompt: "Count from one to ten.", ...settings });
  const stream = streamText({ model, prompt: "Count from one to ten.", ...settings });
  let streamed = "";
  for await (const piece of stream.textStream) streamed += piece;
  const asked = [];
  const called = await generateText({
    model,
    prompt: "What is 6 times 7?",
    tools: {
      multiply: tool({
        description: "Multiply two numbers.",
        inputSchema: z.object({ a: z.number().int(), b: z.number().int() }),
        execute: async ({ a, b }) => {
          asked.push([a, b]);
          return a * b;
        },
      }),
    },
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
    stopWhen: stepCountIs(2),
    providerOptions: { openai: { parallelToolCalls: false }, ours: { parallel_tool_calls: false } },
    ...settings,
  });
  const person = await generateText({
    model,
    prompt: "Ada is 36 years old.",
    output: Output.object({ schema: z.object({ name: z.string().max(30), age: z.number().int().min(0).max(150) }) }),
    ...settings,
  });
  seen[name] = {
    whole: whole.text,
    streamed,
    asked: asked.length,
    steps: called.steps.length,
    person: person.output,
  };
}
process.stdout.write(JSON.stringify(seen));
