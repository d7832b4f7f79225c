import { useEffect, useRef, useState } from "preact/hooks";

const FIRST = 60;
const STEP = 80;

/**
 * Return how many rows of a long list to render now: a screenful at first, then more with each frame, so that no step
 * holds up the page.
 *
 * @param total The number of rows.
 * @param list Names the list: another one begins with a screenful again.
 * @param first How many rows to begin with, as when somebody comes back to the end of a long list.
 */
export function useDeferred(total: number, list: unknown = "", first = FIRST): number {
  const [, setStep] = useState(0);
  const state = useRef({ list, shown: first });
  if (state.current.list !== list) state.current = { list, shown: FIRST };
  const { shown } = state.current;
  useEffect(() => {
    if (shown >= total) return;
    const frame = requestAnimationFrame(() => {
      state.current.shown += STEP;
      setStep((before) => before + 1);
    });
    return () => cancelAnimationFrame(frame);
  });
  return Math.min(shown, total);
}
