/** A table of what a screen lists: a caption that a screen reader announces, the titles of the columns, and rows. */

import type { ComponentChildren } from "preact";

/** The title of a column of buttons, which is read out and not seen. */
export const ACTIONS = "Actions";

interface Props {
  caption: string;
  columns: readonly string[];
  /** A further class, for the styles of one table. */
  kind?: string;
  /** The rows. */
  children: ComponentChildren;
}

export function ListTable({ caption, columns, kind, children }: Props) {
  return (
    <table class={kind === undefined ? "list" : `list ${kind}`}>
      <caption class="visually-hidden">{caption}</caption>
      <thead>
        <tr>
          {columns.map((title) => (
            <th key={title} scope="col">
              {title === ACTIONS ? <span class="visually-hidden">{title}</span> : title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>{children}</tbody>
    </table>
  );
}
