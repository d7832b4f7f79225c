/** A part that can be opened; what is inside is made when it is opened for the first time. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

interface Props {
  summary: ComponentChildren;
  /** Whether it is open at first. */
  open?: boolean;
  class?: string;
  children: ComponentChildren;
}

export function Disclosure({ summary, open = false, class: name, children }: Props) {
  const [made, setMade] = useState(open);
  return (
    <details
      open={open}
      {...(name === undefined ? {} : { class: name })}
      onToggle={(event) => {
        if (event.currentTarget.open) setMade(true);
      }}
    >
      <summary>{summary}</summary>
      {made && children}
    </details>
  );
}
