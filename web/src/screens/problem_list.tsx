/** Problems of files, by file and line, and the commands that correct them. */

import type { Problem } from "../api/client.ts";
import { useDeferred } from "../ui/deferred.ts";
import { Disclosure } from "../ui/disclosure.tsx";
import { PlaceName } from "../ui/place_name.tsx";
import { visible } from "../ui/value_rows.ts";
import { counted } from "../ui/words.ts";
import { byFile, type FileProblems } from "./changes.ts";

/** The problems by file and line; a file with many can be opened. */
export function ProblemList({ problems }: { problems: readonly Problem[] }) {
  return (
    <>
      {byFile(problems).map((found) => (
        <ProblemsOfFile key={found.file} {...found} />
      ))}
    </>
  );
}

const MANY = 8;

function ProblemsOfFile({ file, count, problems }: FileProblems) {
  const shown = useDeferred(problems.length);
  const list = () => (
    <ul class="problems">
      {problems.slice(0, shown).map(({ lines, message }) => (
        <li key={`${lines} ${message}`}>
          {lines.length > 0 && `${lines.length === 1 ? "line" : "lines"} ${lines.join(", ")}: `}
          {visible(message)}
        </li>
      ))}
    </ul>
  );
  if (file === "") return list();
  const title = (
    <>
      <PlaceName of={file} />: {counted(count, "problem")}
    </>
  );
  if (problems.length <= MANY) {
    return (
      <>
        <p class="file">{title}</p>
        {list()}
      </>
    );
  }
  return (
    <Disclosure name={`file:${file}`} summary={title}>
      {list()}
    </Disclosure>
  );
}

/** Commands that correct what is wrong, to be typed on the machine of the daemon. */
export function Remedies({ commands }: { commands: readonly string[] }) {
  if (commands.length === 0) return null;
  return (
    <>
      <p>These commands correct it:</p>
      <ul class="commands">
        {commands.map((command) => (
          <li key={command}>
            <code>{command}</code>
          </li>
        ))}
      </ul>
    </>
  );
}

/** JSON Pointers in one line after another; of many, the first ones until somebody opens the part with this name. */
export function Pointers({ name, of, few = 6 }: { name: string; of: readonly string[]; few?: number }) {
  const list = (pointers: readonly string[]) => (
    <ul class="pointers">
      {pointers.map((pointer) => (
        <li key={pointer}>
          <PlaceName of={pointer} />
        </li>
      ))}
    </ul>
  );
  if (of.length <= few) return list(of);
  return (
    <Disclosure name={name} summary={counted(of.length, "place")}>
      {list(of)}
    </Disclosure>
  );
}
