// Drives a Perch server with OpenAI's own JavaScript client. Usage: openai_client.cjs URL MODEL
// Each function below is one check; the first that fails ends the run with its error.
'use strict';
const assert = require('node:assert/strict');
const OpenAI = require('openai');

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'not needed', maxRetries: 0, timeout: 120_000 });
const messages = [{ role: 'user', content: 'Tell me a story.' }];
const chat = (settings) => client.chat.completions.create({ model, messages, max_tokens: 12, ...settings });

async function listsModels() {
  const ids = [];
  for await (const entry of client.models.list()) ids.push(entry.id);
  assert(ids.includes(model), ids.join());
  assert.equal((await client.models.retrieve(model)).id, model);
}

async function answersAChatWithUsage() {
  const answer = await chat({ temperature: 0 });
  assert.equal(answer.choices[0].finish_reason, 'length');
  assert(answer.choices[0].message.content.length > 0);
  assert.equal(answer.usage.completion_tokens, 12);
}

async function streamsTheSameTextAsItAnswersWhole() {
  const whole = await chat({ temperature: 0 });
  const stream = await chat({ temperature: 0, stream: true, stream_options: { include_usage: true } });
  let text = '';
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, 12);
}

async function runsTheClientsOwnStreamHelper() {
  const runner = client.chat.completions.stream({ model, messages, max_tokens: 12, temperature: 0 });
  let text = '';
  runner.on('content', (delta) => (text += delta));
  const final = await runner.finalChatCompletion();
  assert.equal(text, final.choices[0].message.content);
}

async function canAbortAStream() {
  const stream = await chat({ max_tokens: 200, stream: true });
  for await (const _ of stream) break;
  assert(stream.controller.signal.aborted);
  await answersAChatWithUsage();
}

async function givesNChoicesAndRepeatsASeed() {
  const texts = async (seed) =>
    (await chat({ n: 3, seed, temperature: 1 })).choices.map((choice) => choice.message.content);
  const first = await texts(1);
  assert.equal(new Set(first).size, 3);
  assert.deepEqual(await texts(1), first);
  assert.notDeepEqual(await texts(2), first);
}

async function givesLogProbabilities() {
  const answer = await chat({ max_tokens: 4, temperature: 0, logprobs: true, top_logprobs: 2 });
  const content = answer.choices[0].logprobs.content;
  assert.equal(content.length, 4);
  for (const entry of content) {
    assert.equal(entry.top_logprobs.length, 2);
    assert.equal(entry.token, entry.top_logprobs[0].token);
  }
}

async function completesText() {
  const settings = { model, prompt: 'Once upon', max_tokens: 8, temperature: 0 };
  const whole = await client.completions.create(settings);
  let text = '';
  for await (const chunk of await client.completions.create({ ...settings, stream: true })) {
    text += chunk.choices[0]?.text ?? '';
  }
  assert.equal(text, whole.choices[0].text);
}

async function errorsAreTheClientsOwnClasses() {
  const is = (kind, code) => (error) => error instanceof kind && error.code === code;
  await assert.rejects(chat({ model: 'no-such-model' }), is(OpenAI.NotFoundError, 'model_not_found'));
  await assert.rejects(chat({ temperature: -1 }), is(OpenAI.BadRequestError, 'invalid_value'));
  await assert.rejects(chat({ no_such_field: 1 }), is(OpenAI.BadRequestError, 'unsupported_parameter'));
  const long = [{ role: 'user', content: 'word '.repeat(20000) }];
  await assert.rejects(chat({ messages: long }), is(OpenAI.BadRequestError, 'context_length_exceeded'));
}

const checks = [
  listsModels,
  answersAChatWithUsage,
  streamsTheSameTextAsItAnswersWhole,
  runsTheClientsOwnStreamHelper,
  canAbortAStream,
  givesNChoicesAndRepeatsASeed,
  givesLogProbabilities,
  completesText,
  errorsAreTheClientsOwnClasses,
];

(async () => {
  for (const check of checks) {
    console.log(check.name);
    await check();
  }
  console.log(`all ${checks.length} checks passed`);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
