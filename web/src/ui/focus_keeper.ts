/** Keeps the focus where a person is when a control goes, or is disabled for a while, that a key pressed. */

const CONTROLS = "a[href], button:enabled, input:enabled, select:enabled, textarea:enabled, summary, [tabindex='0']";

/** Where a control was. */
interface Place {
  inside: Node;
  after: Node | null;
}

interface Focused {
  at: HTMLElement;
  /** The screen that it was on. Another one gives the focus to its heading. */
  screen: string;
}

let byKey = false;
let last: Focused | undefined;

/** Follow the focus from now on. */
export function startFocusKeeper(): void {
  addEventListener("keydown", pressed, true);
  addEventListener("pointerdown", () => follow(false), true);
  addEventListener("focusin", ({ target }) => {
    if (target instanceof HTMLElement) last = { at: target, screen: screen() };
  });
  new MutationObserver(look).observe(document.body, {
    childList: true,
    subtree: true,
    attributes: true,
    attributeFilter: ["disabled"],
  });
}

/** A key that is held presses one control once: what it pressed may be gone, and another one has the focus. */
function pressed(event: KeyboardEvent): void {
  follow(true);
  const isOnButton = event.target instanceof Element && event.target.matches("button, summary");
  if (event.repeat && event.key === "Enter" && isOnButton) event.preventDefault();
}

/** After a finger the keyboard of a phone would come up, and who uses a mouse sees where it is. */
function follow(isKey: boolean): void {
  byKey = isKey;
}

function screen(): string {
  return location.hash.replace(/\?.*/, "");
}

function look(records: readonly MutationRecord[]): void {
  const { activeElement } = document;
  if (!byKey || last === undefined || activeElement !== document.body) return;
  const [lost, { at }] = [last, last];
  const isBack = records.some(({ type, target }) => type === "attributes" && target === at) && at.matches(":enabled");
  const record = records.find(({ removedNodes }) => [...removedNodes].some((node) => node.contains(at)));
  if (!isBack && record === undefined) return;
  const place = record === undefined ? undefined : { inside: record.target, after: record.previousSibling };
  // What knows better where the focus goes has given it by then.
  requestAnimationFrame(() => requestAnimationFrame(() => give(lost, place)));
}

function give({ at, screen: before }: Focused, place: Place | undefined): void {
  if (document.activeElement !== document.body || before !== screen() || !document.hasFocus()) return;
  if (at.isConnected) {
    at.focus();
  } else if (place !== undefined) {
    const to = place.inside.isConnected ? next(place) : undefined;
    (to ?? document.querySelector<HTMLElement>("main h1"))?.focus({ preventScroll: true });
  }
}

/** Return the first control after a place, in the dialog that is open or on the screen. */
function next({ inside, after }: Place): HTMLElement | undefined {
  const around = document.querySelector("dialog[open]") ?? document.getElementById("main");
  const isAfter = (control: HTMLElement): boolean => {
    if (after?.isConnected) return follows(control, after) && !after.contains(control);
    return inside.contains(control) || follows(control, inside);
  };
  return [...(around?.querySelectorAll<HTMLElement>(CONTROLS) ?? [])].find(
    (control) => isAfter(control) && control.checkVisibility({ visibilityProperty: true }),
  );
}

function follows(control: Node, before: Node): boolean {
  return (before.compareDocumentPosition(control) & Node.DOCUMENT_POSITION_FOLLOWING) !== 0;
}
