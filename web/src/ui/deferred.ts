import { useEffect, useState } from "preact/hooks";

const FIRST = 60;
const STEP = 120;

/**
 * Return how many rows of a long list to render now: a screenful at first, then more with each frame, so that no step
 * holds up the page.
 */
export function useDeferred(total: number): number {
  const [shown, setShown] = useState(FIRST);
  useEffect(() => {
    if (shown >= total) return;
    const frame = requestAnimationFrame(() => setShown((before) => before + STEP));
    return () => cancelAnimationFrame(frame);
  }, [shown, total]);
  return Math.min(shown, total);
}
