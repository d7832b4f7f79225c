/** The name of a place or of a file, which breaks at its separators where it is too long for a line. */

import { visible } from "./value_rows.ts";

export function PlaceName({ of, block = false }: { of: string; block?: boolean }) {
  return (
    <code class={block ? "name block" : "name"}>
      <Separated text={visible(of)} />
    </code>
  );
}

/** A name that breaks at its separators. */
export function Separated({ text }: { text: string }) {
  return (
    <>
      {text.split(/(?<=[/_])/).map((part, index) => (
        <>
          {index > 0 && <wbr />}
          {part}
        </>
      ))}
    </>
  );
}
