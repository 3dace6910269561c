// Which page is shown: the address after `#/`, so that the server serves one page and links can be kept.

export const PAGES = ['overview', 'models', 'chat', 'connect', 'usage', 'logs', 'settings'] as const;
export type PageName = (typeof PAGES)[number];

export interface Route {
  page: PageName;
  /** What follows the page's name, decoded. */
  rest: string;
}

export function parse(hash: string): Route {
  const path = hash.replace(/^#\/?/, '');
  const slash = path.indexOf('/');
  const name = slash < 0 ? path : path.slice(0, slash);
  const page = PAGES.find((known) => known === name) ?? 'overview';
  let rest = slash < 0 ? '' : path.slice(slash + 1);
  try {
    rest = decodeURIComponent(rest);
  } catch {
    rest = '';
  }
  return { page, rest };
}

export function link(page: PageName, rest = ''): string {
  return `#/${page}${rest ? `/${rest.split('/').map(encodeURIComponent).join('/')}` : ''}`;
}

let current = $state<Route>(parse(location.hash));

export const route = {
  get page(): PageName {
    return current.page;
  },
  get rest(): string {
    return current.rest;
  },
};

addEventListener('hashchange', () => {
  current = parse(location.hash);
});

export function go(page: PageName, rest = ''): void {
  location.hash = link(page, rest);
}

/** Like `go`, without a step for the back button. */
export function replace(page: PageName, rest = ''): void {
  history.replaceState(null, '', link(page, rest));
  current = parse(location.hash);
}
