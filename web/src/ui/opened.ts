/** Which parts of a screen the user opened or closed, as `open` and `shut` in the address. All others are as they begin. */

import { computed, useComputed } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { changeQuery, route } from "../router.ts";

/** An address names so many parts of each kind; of more, those that were opened or closed last. */
const MOST = 50;

const parts = computed(() => ({ open: readNames(route.value.query.open), shut: readNames(route.value.query.shut) }));

/** Return the names of which an address has a list. */
export function readNames(text = ""): Set<string> {
  return new Set(text.split(" ").filter(Boolean).map(decode));
}

/** Return names as a list for an address; undefined if there is none. */
export function writeNames(names: Iterable<string>): string | undefined {
  const found = [...names].slice(-MOST);
  return found.length === 0 ? undefined : found.map((name) => name.replace(/[ %]/g, encodeURIComponent)).join(" ");
}

function decode(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // A stray "%", typed into the address.
  }
}

/**
 * Use whether a part of the screen is open.
 *
 * @param name Names the part among those of the screen.
 * @param begin Returns whether it is open at first.
 */
export function useOpened(name: string, begin: () => boolean): [boolean, (open: boolean) => void] {
  const first = useMemo(begin, [name]);
  const isOpen = useComputed(() => {
    const { open, shut } = parts.value;
    return open.has(name) || (first && !shut.has(name));
  }).value;
  return [
    isOpen,
    (next) => {
      const { open, shut } = parts.peek();
      const [opened, closed] = [open, shut].map((names) => new Set([...names].filter((other) => other !== name)));
      if (next !== first) (next ? opened : closed)?.add(name);
      changeQuery({ open: writeNames(opened ?? []), shut: writeNames(closed ?? []) });
    },
  ];
}
