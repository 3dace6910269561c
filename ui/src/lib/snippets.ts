// What to paste into other programs. Only what this version serves: OpenAI's chat and text completions.

export interface Target {
  /** `http://127.0.0.1:8080`. */
  base: string;
  model: string;
  needsKey: boolean;
}

export interface Snippets {
  note?: string;
  parts: { title: string; text: string }[];
}

export const CLIENTS = [
  { id: 'python', name: 'Python' },
  { id: 'javascript', name: 'JavaScript' },
  { id: 'curl', name: 'curl' },
  { id: 'continue', name: 'Continue' },
  { id: 'zed', name: 'Zed' },
  { id: 'open-webui', name: 'Open WebUI' },
  { id: 'codex', name: 'Codex' },
  { id: 'claude-code', name: 'Claude Code' },
] as const;

export type ClientId = (typeof CLIENTS)[number]['id'];

/** A text as a string of JSON, Python and JavaScript alike. */
const quoted = (text: string) => JSON.stringify(text);
/** A text as one word of a POSIX shell. */
const word = (text: string) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

export function snippets(client: ClientId, { base, model, needsKey }: Target): Snippets {
  const url = `${base}/v1`;
  const key = needsKey ? 'YOUR_KEY' : 'perch';
  switch (client) {
    case 'python':
      return {
        parts: [
          { title: 'Terminal', text: 'pip install openai' },
          {
            title: 'chat.py',
            text: `from openai import OpenAI

client = OpenAI(base_url=${quoted(url)}, api_key=${quoted(key)})

stream = client.chat.completions.create(
    model=${quoted(model)},
    messages=[{"role": "user", "content": "Why is the sky blue?"}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)`,
          },
        ],
      };
    case 'javascript':
      return {
        parts: [
          { title: 'Terminal', text: 'npm install openai' },
          {
            title: 'chat.mjs',
            text: `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${quoted(url)}, apiKey: ${quoted(key)} });

const stream = await client.chat.completions.create({
  model: ${quoted(model)},
  messages: [{ role: "user", content: "Why is the sky blue?" }],
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}`,
          },
        ],
      };
    case 'curl': {
      const body = JSON.stringify({ model, messages: [{ role: 'user', content: 'Why is the sky blue?' }] });
      const auth = needsKey ? ` \\\n  -H "Authorization: Bearer $PERCH_KEY"` : '';
      return {
        parts: [
          {
            title: 'Terminal',
            text: `curl ${url}/chat/completions \\\n  -H "Content-Type: application/json"${auth} \\\n  -d ${word(body)}`,
          },
          { title: 'Which models there are', text: `curl ${url}/models${auth}` },
        ],
      };
    }
    case 'continue':
      return {
        note: 'Add this to ~/.continue/config.yaml.',
        parts: [
          {
            title: 'config.yaml',
            text: `models:
  - name: Perch
    provider: openai
    model: ${quoted(model)}
    apiBase: ${url}
    apiKey: ${key}
    roles: [chat, edit]`,
          },
        ],
      };
    case 'zed':
      return {
        note: `Add this to settings.json; Zed asks for the API key in its agent panel (${needsKey ? 'one of yours' : 'any text will do'}).`,
        parts: [
          {
            title: 'settings.json',
            text: JSON.stringify(
              {
                language_models: {
                  openai_compatible: {
                    Perch: {
                      api_url: url,
                      available_models: [{ name: model, display_name: model, max_tokens: 32768 }],
                    },
                  },
                },
              },
              null,
              2,
            ),
          },
        ],
      };
    case 'open-webui': {
      const inside = url.replace(/\/\/(127\.0\.0\.1|localhost)/, '//host.docker.internal');
      return {
        note: `In Admin Settings, Connections, add an OpenAI connection with the URL ${url} and the key ${needsKey ? 'of yours' : `“${key}”`}. Open WebUI in a container reaches this machine as host.docker.internal: add that name to the allowed hosts in Settings.`,
        parts: [
          {
            title: 'Terminal, with Docker',
            text: `docker run -d -p 3000:8080 --add-host=host.docker.internal:host-gateway \\
  -e OPENAI_API_BASE_URL=${inside} -e OPENAI_API_KEY=${key} \\
  -v open-webui:/app/backend/data ghcr.io/open-webui/open-webui:main`,
          },
        ],
      };
    }
    case 'codex':
      return { note: 'Codex speaks the Responses API alone, which this version of Perch does not serve yet.', parts: [] };
    case 'claude-code':
      return { note: 'Claude Code speaks Anthropic’s Messages API, which this version of Perch does not serve yet.', parts: [] };
  }
}
