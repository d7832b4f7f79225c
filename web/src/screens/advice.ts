/** What the kinds of alerts and of drift mean, and what to do. */

import { ALERTS } from "./advice_texts.ts";

export interface Advice {
  meaning: string;
  /** What to do. */
  remedy: string;
}

/** Return what is known of an alert: of its name, else of its kind with a subject such as `replica_gone:alice`. */
export function alertAdvice(name: string): Advice | undefined {
  const [kind = "", subject] = name.split(/:(.*)/);
  const ofSubject = Object.keys(ALERTS).find((key) => key.startsWith(`${kind}:<`));
  // A topic has slashes; the subject of such a row is a name.
  const isName = subject !== undefined && !subject.includes("/");
  return ALERTS[name] ?? (isName && ofSubject !== undefined ? ALERTS[ofSubject] : ALERTS[kind]);
}
