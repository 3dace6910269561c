// Colours for code.

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

const languages = { bash, c, cpp, css, diff, go, java, javascript, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);
hljs.registerAliases(['toml', 'ini'], { languageName: 'yaml' });

export function known(language: string): boolean {
  return language !== '' && hljs.getLanguage(language) !== undefined;
}

/** `text` in spans; and whether what comes after it can be coloured by itself, because no string or comment is open. */
export function highlight(text: string, language: string): { nodes: DocumentFragment; whole: boolean } {
  const { value, _top } = hljs.highlight(text, { language, ignoreIllegals: true });
  return { nodes: built(value), whole: !(_top as { parent?: unknown } | undefined)?.parent };
}

const CHARACTERS: Record<string, string> = { '&amp;': '&', '&lt;': '<', '&gt;': '>', '&quot;': '"', '&#x27;': "'" };

/** Nodes for what highlight.js writes: spans with a class, and text. No parser of HTML reads it, so nothing else comes of it. */
function built(html: string): DocumentFragment {
  const root = document.createDocumentFragment();
  let at: ParentNode & Node = root;
  for (const [piece, name] of html.matchAll(/<span class="([^"]*)">|<\/span>|[^<]+|</g)) {
    if (name !== undefined) {
      const span = document.createElement('span');
      span.className = name;
      at.append(span);
      at = span;
    } else if (piece === '</span>') at = at.parentNode ?? root;
    else at.append(piece.replace(/&(?:amp|lt|gt|quot|#x27);/g, (named) => CHARACTERS[named] ?? named));
  }
  return root;
}
