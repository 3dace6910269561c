// A real server behind a door that answers chats itself, piece by piece at an even pace: what a page does with a stream can
// be looked at without a model.

import { createServer, request } from 'node:http';

/** A door to `server` that says `pieces` itself, `pace` of them a second, where `/api/v1/chat` is asked. */
export async function door(server, pieces, pace) {
  const to = new URL(server.url);
  const proxy = createServer((asked, answer) => {
    if (asked.url === '/api/v1/chat' && asked.method === 'POST') return void stream(asked, answer, pieces, pace);
    const headers = { ...asked.headers, host: to.host };
    delete headers.origin;
    const passed = request({ host: to.hostname, port: to.port, path: asked.url, method: asked.method, headers }, (got) => {
      answer.writeHead(got.statusCode, got.headers);
      got.pipe(answer);
    });
    passed.on('error', () => answer.destroy());
    answer.on('close', () => passed.destroy());
    asked.pipe(passed);
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${proxy.address().port}`, close: () => proxy.closeAllConnections() ?? proxy.close() };
}

async function stream(asked, answer, pieces, pace) {
  asked.resume();
  answer.writeHead(200, { 'content-type': 'text/event-stream' });
  const id = 'd'.repeat(32);
  const send = (data) => answer.write(`data: ${JSON.stringify(data)}\n\n`);
  send({ type: 'start', conversation: null, user_message: null, message_id: id });
  const begun = performance.now();
  for (const [at, content] of pieces.entries()) {
    const wait = begun + (at * 1000) / pace - performance.now();
    if (wait > 1) await new Promise((resolve) => setTimeout(resolve, wait));
    send({ type: 'delta', content });
  }
  send({ type: 'done', conversation: null, message: { id, role: 'assistant', content: pieces.join(''), state: 'complete', created_at: 1 } });
  answer.end('data: [DONE]\n\n');
}
