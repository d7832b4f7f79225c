import type { RefObject } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

const FIRST = 40;
const STEP = 40;
/** Rows are there before the user reaches them: so many pixels below what is seen. */
const AHEAD = 1500;

export interface LongList {
  /** How many rows to render. */
  shown: number;
  /** The height of the rows that are not rendered yet, in pixels: something empty below the list takes it. */
  rest: number;
}

/**
 * Render the rows of a long list as far as the user gets, a few with each frame, so that no step holds up the page.
 *
 * @param total The number of rows.
 * @param list Names the list: another one begins with few rows again.
 * @param body Holds the rows.
 * @param first How many rows to begin with, as when somebody comes back to a place far down.
 */
export function useLongList(total: number, list: string, body: RefObject<HTMLElement | null>, first = FIRST): LongList {
  const [, setStep] = useState(0);
  const state = useRef({ list, shown: first, height: 40 });
  if (state.current.list !== list) state.current = { list, shown: FIRST, height: state.current.height };
  const shown = Math.min(state.current.shown, total);
  const frame = useRef(0);
  useLayoutEffect(() => {
    const look = () => {
      frame.current = 0;
      const box = body.current?.getBoundingClientRect();
      const now = state.current;
      if (box === undefined || now.shown >= total || box.bottom > innerHeight + AHEAD) return;
      // Rows are of different heights: that of the others is guessed from those that are there.
      if (box.height > 0) now.height = box.height / now.shown;
      now.shown += STEP;
      setStep((before) => before + 1);
    };
    const schedule = () => {
      if (frame.current === 0) frame.current = requestAnimationFrame(look);
    };
    if (shown < total) schedule();
    addEventListener("scroll", schedule, { passive: true });
    addEventListener("resize", schedule);
    return () => {
      cancelAnimationFrame(frame.current);
      frame.current = 0;
      removeEventListener("scroll", schedule);
      removeEventListener("resize", schedule);
    };
  });
  return { shown, rest: (total - shown) * state.current.height };
}
