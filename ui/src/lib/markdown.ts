// Markdown of models and model cards as nodes that can do no harm: no scripts, styles, forms, ids or remote images.

import DOMPurify, { type Config } from 'dompurify';
import { Marked } from 'marked';

import { Code, framed } from './code';
import { languageOf } from './fence';

export { Blocks } from './blocks';
export { Code };

const marked = new Marked({ gfm: true, breaks: false });
marked.use({
  renderer: {
    code({ text, lang }) {
      // The lexer writes an empty last line twice.
      const shown = text.endsWith('\n') ? text.slice(0, -1) : text;
      return `<pre title="${escaped(languageOf(lang ?? ''))}"><code class="hljs">${escaped(shown)}</code></pre>`;
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

/** Puts code below its head; colours it, unless it was written as HTML. */
function decorate(pre: HTMLPreElement): void {
  const name = pre.title;
  pre.removeAttribute('title');
  const inner = pre.firstElementChild;
  if (!inner?.classList.contains('hljs') || inner.childElementCount > 0 || pre.childNodes.length > 1) {
    // A frame takes the place before what it frames is put into it.
    const place = document.createComment('');
    pre.replaceWith(place);
    place.replaceWith(framed(pre, name));
    return;
  }
  const code = new Code(name);
  code.write(pre.textContent ?? '');
  code.end();
  pre.replaceWith(code.element);
}
