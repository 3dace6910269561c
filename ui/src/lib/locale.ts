// A browser that was started with LANG=C calls its language `en-US@posix` or `C`, which Intl refuses with an error. A
// library that asks for that language while it is read would keep the whole page from appearing.

export function understood(language: string): boolean {
  try {
    new Intl.NumberFormat(language);
    return true;
  } catch {
    return false;
  }
}

/** Puts English in the place of a language that Intl refuses. */
export function mend(about: Pick<Navigator, 'language' | 'languages'>): void {
  if (understood(about.language)) return;
  const known = about.languages.filter(understood);
  const languages = known.length > 0 ? known : ['en-US'];
  Object.defineProperty(about, 'language', { value: languages[0], configurable: true });
  Object.defineProperty(about, 'languages', { value: Object.freeze(languages), configurable: true });
}

if (typeof navigator !== 'undefined') mend(navigator);
