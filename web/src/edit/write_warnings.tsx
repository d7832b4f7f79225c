/** What the answer to a write has besides changes: warnings, values of files that it hides, a broker that is away. */

import { BrokerAway } from "../ui/broker_away.tsx";
import { Disclosure } from "../ui/disclosure.tsx";
import { Notice } from "../ui/elements.tsx";
import { visible } from "../ui/value_rows.ts";
import type { WriteAnswer } from "./write.ts";

/** The warnings, without those that the write hides a value of a file, which a run-time change is meant to do. */
export function WriteWarnings({ answer }: { answer: WriteAnswer }) {
  const hidden = new Set(hiddenValues(answer));
  const warnings = answer.warnings.filter((warning) => !hidden.has(warning));
  return (
    <>
      {warnings.length > 0 && (
        <Notice tone="warning" title="Warnings">
          <Texts of={warnings} />
        </Notice>
      )}
      {answer.waits_for_broker && <BrokerAway />}
    </>
  );
}

/** The values of files that the write hides. */
export function HiddenValues({ answer }: { answer: WriteAnswer }) {
  const hidden = hiddenValues(answer);
  if (hidden.length === 0) return null;
  return (
    <Disclosure
      name="-hidden"
      summary={`The change replaces ${hidden.length === 1 ? "a value of a file" : `${hidden.length} values of files`} until it is taken back`}
    >
      <Texts of={hidden} />
    </Disclosure>
  );
}

function hiddenValues({ warning_details: details = [] }: WriteAnswer): string[] {
  return details.filter(({ kind }) => kind === "shadowed").map(({ message }) => message);
}

function Texts({ of }: { of: readonly string[] }) {
  return (
    <ul>
      {of.map((text) => (
        <li key={text}>{visible(text)}</li>
      ))}
    </ul>
  );
}
