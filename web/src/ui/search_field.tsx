/** A labelled field for a search; screens keep its text with `useQueryText`. */

import { Field } from "./elements.tsx";
import { VERBATIM } from "./verbatim.ts";

interface Props {
  label?: string;
  /** What can be searched for. */
  hint: string;
  value: string;
  /** Takes the text after each key. */
  onValue: (text: string) => void;
  /** Takes the text when it is complete: with Enter, or when the field is left. */
  onComplete?: (text: string) => void;
}

export function SearchField({ label = "Search", hint, value, onValue, onComplete }: Props) {
  return (
    <Field label={label}>
      {({ id }) => (
        <input
          id={id}
          type="search"
          value={value}
          placeholder={hint}
          autoComplete="off"
          {...VERBATIM}
          onInput={(event) => onValue(event.currentTarget.value)}
          onChange={(event) => onComplete?.(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}
