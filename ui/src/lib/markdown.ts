// Markdown of models and model cards as nodes that can do no harm: no scripts, styles, forms, ids or remote images.

import DOMPurify, { type Config } from 'dompurify';
import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import c from 'highlight.js/lib/languages/c';
import cpp from 'highlight.js/lib/languages/cpp';
import css from 'highlight.js/lib/languages/css';
import diff from 'highlight.js/lib/languages/diff';
import go from 'highlight.js/lib/languages/go';
import java from 'highlight.js/lib/languages/java';
import javascript from 'highlight.js/lib/languages/javascript';
import json from 'highlight.js/lib/languages/json';
import python from 'highlight.js/lib/languages/python';
import rust from 'highlight.js/lib/languages/rust';
import sql from 'highlight.js/lib/languages/sql';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';
import { Marked } from 'marked';

export { Blocks } from './blocks';

const languages = { bash, c, cpp, css, diff, go, java, javascript, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);
hljs.registerAliases(['toml', 'ini'], { languageName: 'yaml' });

/** Longer code is not coloured: it would cost more time than it is worth. */
const LONGEST_COLOURED = 30_000;

const marked = new Marked({ gfm: true, breaks: false });
marked.use({
  renderer: {
    code({ text, lang }) {
      const language = (lang ?? '').trim().split(/[\s{,:]/)[0]!.toLowerCase();
      const known = language !== '' && text.length <= LONGEST_COLOURED && hljs.getLanguage(language);
      const inner = known ? hljs.highlight(text, { language, ignoreIllegals: true }).value : escaped(text);
      return `<pre title="${escaped(language)}"><code class="hljs">${inner}</code></pre>`;
    },
    image({ href, text, title }) {
      return `<a href="${escaped(href)}">${escaped(text || title || 'image')}</a>`;
    },
  },
});

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

const ALLOWED: Config = {
  ALLOWED_TAGS: [
    'a', 'b', 'blockquote', 'br', 'center', 'code', 'dd', 'del', 'details', 'div', 'dl', 'dt', 'em', 'h1', 'h2', 'h3',
    'h4', 'h5', 'h6', 'hr', 'i', 'ins', 'kbd', 'li', 'mark', 'ol', 'p', 'pre', 's', 'samp', 'small', 'span', 'strong',
    'sub', 'summary', 'sup', 'table', 'tbody', 'td', 'tfoot', 'th', 'thead', 'tr', 'u', 'ul', 'var',
  ],
  ALLOWED_ATTR: ['align', 'class', 'colspan', 'href', 'open', 'rowspan', 'start', 'title'],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** Nodes that show `text`. */
export function render(text: string): DocumentFragment {
  const html = marked.parse(text, { async: false });
  const fragment = DOMPurify.sanitize(html, ALLOWED) as unknown as DocumentFragment;
  for (const link of fragment.querySelectorAll('a')) {
    if (!link.getAttribute('href')) {
      link.replaceWith(...link.childNodes);
      continue;
    }
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
  }
  for (const element of fragment.querySelectorAll('[class]')) {
    const ours = [...element.classList].filter((name) => /^hljs(-[\w-]+)?$|_$/.test(name));
    element.className = element.closest('pre') ? ours.join(' ') : '';
  }
  for (const table of fragment.querySelectorAll('table')) {
    const frame = document.createElement('div');
    frame.className = 'table-frame';
    frame.tabIndex = 0;
    frame.setAttribute('role', 'group');
    frame.setAttribute('aria-label', 'Table');
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const code of fragment.querySelectorAll('pre')) decorate(code);
  return fragment;
}

/** Writes the growth of a block of code, which ends with its text so far, at the end of what is shown of it. */
export function extend(block: Element, raw: string): void {
  const code = block.querySelector(':scope > .code-frame:only-child code');
  const opened = /^ {0,3}(```+|~~~+)[^\n]*\n/.exec(raw);
  if (!code || !opened) return;
  const written = code.textContent ?? '';
  const text = raw.slice(opened[0].length);
  // A line that may close it waits until all of it is read anew.
  if (!text.startsWith(written) || /^ {0,3}(```|~~~)/m.test(text.slice(text.lastIndexOf('\n', written.length) + 1))) return;
  code.append(text.slice(written.length));
}

/** A head with the language and a button that copies. */
function decorate(pre: HTMLPreElement): void {
  const frame = document.createElement('div');
  frame.className = 'code-frame';
  const head = document.createElement('div');
  head.className = 'code-head';
  const language = document.createElement('span');
  language.textContent = pre.title || 'text';
  const copy = document.createElement('button');
  copy.type = 'button';
  copy.textContent = 'Copy';
  copy.addEventListener('click', () => {
    navigator.clipboard.writeText(pre.textContent ?? '').then(
      () => (copy.textContent = 'Copied'),
      () => (copy.textContent = 'Copying failed'),
    );
    setTimeout(() => (copy.textContent = 'Copy'), 1500);
  });
  pre.removeAttribute('title');
  pre.tabIndex = 0;
  head.append(language, copy);
  pre.replaceWith(frame);
  frame.append(head, pre);
}
