/**
 * Texts that are typed into dialogs and not sent yet. They outlive Back and a reload, for as long as the tab is open. None
 * is a secret.
 */

import { type Signal, signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { PREFIX } from "../memory.ts";

const typed = new Map<string, Signal<string>>();

function keyOf(name: string): string {
  return `${PREFIX}typed.${name}`;
}

function stored(name: string): string {
  try {
    return sessionStorage.getItem(keyOf(name)) ?? "";
  } catch {
    return ""; // A browser that denies storage: the text lives in memory.
  }
}

function write(name: string, text: string): void {
  try {
    if (text) sessionStorage.setItem(keyOf(name), text);
    else sessionStorage.removeItem(keyOf(name));
  } catch {}
}

/**
 * Use a text that is typed.
 *
 * @param name The key of the text, such as `rollback/dev/lamp/comment`.
 * @returns The text, "" if nothing is typed; and a function that changes it, called with "" to forget it.
 */
export function useTyped(name: string): [string, (text: string) => void] {
  const text = useMemo(() => {
    const known = typed.get(name) ?? signal(stored(name));
    typed.set(name, known);
    return known;
  }, [name]);
  return [
    text.value,
    (next) => {
      text.value = next;
      write(name, next);
    },
  ];
}
