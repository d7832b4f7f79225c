/** A part that can be opened; what is inside is made when it is opened for the first time. */

import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { useOpened } from "./opened.ts";

interface Props {
  /** Names it among those of the screen, for the address. */
  name: string;
  summary: ComponentChildren;
  /** Whether it is open at first. */
  open?: boolean;
  class?: string;
  children: ComponentChildren;
}

export function Disclosure({ name, summary, open = false, class: style, children }: Props) {
  const [isOpen, setOpen] = useOpened(name, () => open);
  const made = useRef(false);
  made.current ||= isOpen;
  return (
    <details
      open={isOpen}
      {...(style === undefined ? {} : { class: style })}
      onToggle={(event) => {
        const now = event.currentTarget.open;
        if (now !== isOpen) setOpen(now);
      }}
    >
      <summary>{summary}</summary>
      {made.current && children}
    </details>
  );
}
