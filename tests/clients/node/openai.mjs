// OpenAI's package over /v1/responses, as its README begins; tests/e2e/node has it over chat completions.
import OpenAI from "openai";

const client = new OpenAI();
const question = { model: "smollm2-135m", input: "Count from one to ten.", temperature: 0, max_output_tokens: 48 };
const whole = await client.responses.create(question);
const stream = await client.responses.create({ ...question, stream: true });
const kinds = [];
let streamed = "";
for await (const event of stream) {
  kinds.push(event.type);
  if (event.type === "response.output_text.delta") streamed += event.delta;
}
process.stdout.write(JSON.stringify({ whole: whole.output_text, streamed, first: kinds[0], last: kinds.at(-1) }));
