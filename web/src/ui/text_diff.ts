/** Differences of two texts by lines and by words (Myers, "An O(ND) Difference Algorithm", 1986). */

/** A run of a text: in both, only in the old one, or only in the new one. */
export interface Run {
  kind: "same" | "old" | "new";
  text: string;
}

/** Texts that differ in more pieces than this are shown whole: the search would take long, and its result say little. */
const MAX_EDITS = 400;

/** Return the runs of two texts by words, white space and signs. */
export function diffWords(old: string, next: string): Run[] {
  return diff(words(old), words(next));
}

/** Return the runs of two texts by lines; each run is whole lines with their line ends. */
export function diffLines(old: string, next: string): Run[] {
  return diff(lines(old), lines(next));
}

/** Return the share of a text's characters that both have; 1 if they are equal. */
export function likeness(runs: readonly Run[]): number {
  let same = 0;
  let all = 0;
  for (const { kind, text } of runs) {
    const weight = kind === "same" ? 2 * text.length : text.length;
    all += weight;
    if (kind === "same") same += weight;
  }
  return all === 0 ? 1 : same / all;
}

function words(text: string): string[] {
  return text.match(/[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu) ?? [];
}

function lines(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

function diff(old: readonly string[], next: readonly string[]): Run[] {
  return diffItems(old, next).map(({ kind, items }) => ({ kind, text: items.join("") }));
}

/** A run of a list: in both, only in the old one, or only in the new one. */
export interface ItemRun {
  kind: Run["kind"];
  items: string[];
}

/** Return the runs of two lists; what is old comes before what is new in its place. */
export function diffItems(old: readonly string[], next: readonly string[]): ItemRun[] {
  let start = 0;
  while (start < old.length && start < next.length && old[start] === next[start]) start += 1;
  let end = 0;
  while (
    end < old.length - start &&
    end < next.length - start &&
    old[old.length - 1 - end] === next[next.length - 1 - end]
  ) {
    end += 1;
  }
  const runs: ItemRun[] = [];
  const add = (kind: Run["kind"], items: readonly string[]) => {
    if (items.length === 0) return;
    const last = runs.at(-1);
    if (last?.kind === kind) last.items.push(...items);
    else runs.push({ kind, items: [...items] });
  };
  add("same", old.slice(0, start));
  for (const [kind, items] of middle(old.slice(start, old.length - end), next.slice(start, next.length - end))) {
    add(kind, items);
  }
  add("same", old.slice(old.length - end));
  return runs;
}

/** Return the pieces of two texts that have neither beginning nor end in common, in order, old before new. */
function middle(old: readonly string[], next: readonly string[]): [Run["kind"], readonly string[]][] {
  const whole: [Run["kind"], readonly string[]][] = [
    ["old", old],
    ["new", next],
  ];
  if (old.length === 0 || next.length === 0) return whole;
  const max = Math.min(old.length + next.length, MAX_EDITS);
  // The furthest place in `old` on each diagonal, after each number of edits.
  const trace: Int32Array[] = [];
  const furthest = new Int32Array(2 * max + 2);
  for (let edits = 0; edits <= max; edits += 1) {
    trace.push(furthest.slice());
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      const down =
        diagonal === -edits || (diagonal !== edits && at(furthest, diagonal - 1) < at(furthest, diagonal + 1));
      let x = down ? at(furthest, diagonal + 1) : at(furthest, diagonal - 1) + 1;
      let y = x - diagonal;
      while (x < old.length && y < next.length && old[x] === next[y]) {
        x += 1;
        y += 1;
      }
      furthest[diagonal + max] = x;
      if (x >= old.length && y >= next.length) return ordered(walkBack(old, next, trace));
    }
  }
  return whole;

  function at(places: Int32Array, diagonal: number): number {
    return places[diagonal + max] ?? 0;
  }

  function walkBack(from: readonly string[], to: readonly string[], steps: Int32Array[]): [Run["kind"], string][] {
    const found: [Run["kind"], string][] = [];
    let x = from.length;
    let y = to.length;
    for (let edits = steps.length - 1; edits >= 0; edits -= 1) {
      const places = steps[edits] ?? new Int32Array();
      const diagonal = x - y;
      const down = diagonal === -edits || (diagonal !== edits && at(places, diagonal - 1) < at(places, diagonal + 1));
      const beforeX = edits === 0 ? 0 : at(places, down ? diagonal + 1 : diagonal - 1);
      const beforeY = edits === 0 ? 0 : beforeX - (down ? diagonal + 1 : diagonal - 1);
      const startX = edits === 0 ? 0 : down ? beforeX : beforeX + 1;
      while (x > startX) {
        x -= 1;
        y -= 1;
        found.push(["same", from[x] ?? ""]);
      }
      if (edits === 0) break;
      if (down) found.push(["new", to[beforeY] ?? ""]);
      else found.push(["old", from[beforeX] ?? ""]);
      x = beforeX;
      y = beforeY;
    }
    return found.reverse();
  }
}

/** Put what is old before what is new between two pieces that are in both. */
function ordered(pieces: readonly [Run["kind"], string][]): [Run["kind"], readonly string[]][] {
  const result: [Run["kind"], string[]][] = [];
  let old: string[] = [];
  let added: string[] = [];
  const flush = () => {
    if (old.length > 0) result.push(["old", old]);
    if (added.length > 0) result.push(["new", added]);
    old = [];
    added = [];
  };
  for (const [kind, text] of pieces) {
    if (kind === "old") old.push(text);
    else if (kind === "new") added.push(text);
    else {
      flush();
      result.push(["same", [text]]);
    }
  }
  flush();
  return result;
}
