/** A text that is typed and lies in the address, such as a search. */

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { changeQuery, route } from "../router.ts";

/** A text reaches the address so long after the last key: browsers limit how often an address may change. */
const ADDRESS_MS = 250;

/**
 * Use a member of the address's query as a text that is typed: it is there at once, and in the address a little later.
 *
 * @returns The text; how to change it; and how to put a text into the address now.
 */
export function useQueryText(name: string): [string, (text: string) => void, (text: string) => void] {
  const inAddress = route.value.query[name] ?? "";
  const [typed, setTyped] = useState(inAddress);
  const written = useRef(inAddress);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  // Before the next key: after the paint it would take away what is typed right behind the change of the address.
  useLayoutEffect(() => {
    // Back, or a link: the address says something else than what was typed.
    if (inAddress === written.current) return;
    written.current = inAddress;
    setTyped(inAddress);
  }, [inAddress]);
  const place = route.peek().path.join("/");
  const write = (text: string) => {
    clearTimeout(timer.current);
    if (route.peek().path.join("/") !== place || text === written.current) return;
    written.current = text;
    changeQuery({ [name]: text });
  };
  return [
    typed,
    (text) => {
      setTyped(text);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => write(text), ADDRESS_MS);
    },
    write,
  ];
}
