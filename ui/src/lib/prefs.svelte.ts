// What this browser remembers: appearance, whether the welcome was seen, drafts of what was typed.

export type Appearance = 'system' | 'light' | 'dark';

const read = (name: string): string | null => {
  try {
    return localStorage.getItem(`perch.${name}`);
  } catch {
    return null;
  }
};
const write = (name: string, value: string | null): void => {
  try {
    if (value === null) localStorage.removeItem(`perch.${name}`);
    else localStorage.setItem(`perch.${name}`, value);
  } catch {
    // A browser without storage forgets; nothing else changes.
  }
};

let appearance = $state<Appearance>((read('appearance') as Appearance | null) ?? 'system');
let welcomed = $state(read('welcomed') === 'yes');

function apply(): void {
  const root = document.documentElement;
  if (appearance === 'system') root.removeAttribute('data-theme');
  else root.setAttribute('data-theme', appearance);
}
apply();

export const prefs = {
  get appearance(): Appearance {
    return appearance;
  },
  set appearance(value: Appearance) {
    appearance = value;
    write('appearance', value);
    apply();
  },
  get welcomed(): boolean {
    return welcomed;
  },
  set welcomed(value: boolean) {
    welcomed = value;
    write('welcomed', value ? 'yes' : null);
  },
};

/** What was typed into a conversation and not sent. `new` is the one that does not exist yet. */
export const drafts = {
  get: (id: string): string => read(`draft.${id}`) ?? '',
  set: (id: string, text: string): void => write(`draft.${id}`, text === '' ? null : text),
};

/** A choice that outlives the page, such as the model last used. */
export const remembered = { get: read, set: write };
