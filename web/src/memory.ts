/** What the browser remembers between visits: how the console looks, and drafts. Never a secret, never a token. */

/**
 * Begins the name of everything that the browser stores. Homes behind the paths of one proxy have the same origin, and
 * nothing else in common: drafts and tokens of one must not reach the other.
 */
export const PREFIX = `aliciacfg${(globalThis.location?.pathname ?? "").replace(/\/[^/]*$/, "")}.`;

/** Return what was remembered under a name; undefined if there is nothing, or the browser denies storage. */
export function remembered(name: string): string | undefined {
  try {
    return localStorage.getItem(PREFIX + name) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Remember a text under a name; undefined forgets it. Returns whether the browser did. */
export function remember(name: string, value: string | undefined): boolean {
  try {
    if (value === undefined) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
    return true;
  } catch {
    return false;
  }
}

/** Return the names that begin with a prefix under which something is remembered. */
export function rememberedNames(prefix: string): string[] {
  try {
    return Object.keys(localStorage)
      .filter((name) => name.startsWith(PREFIX + prefix))
      .map((name) => name.slice(PREFIX.length));
  } catch {
    return [];
  }
}

/** Return what connects the tabs of this origin; undefined if the browser denies it, as Firefox does without cookies. */
export function channelOf(name: string): BroadcastChannel | undefined {
  try {
    return new BroadcastChannel(name);
  } catch {
    return undefined;
  }
}
