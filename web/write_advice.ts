// Write src/screens/advice_texts.ts: what the documentation says of each alert and each kind of drift.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Advice } from "./src/screens/advice.ts";

const HEAD = `/**
 * What docs/reference/alerts.md and drift.md say of each kind; written by \`npm run advice\`. \`code\` is in backticks, what
 * is in angle brackets stands for a subject.
 */

import type { Advice } from "./advice.ts";
`;
const KINDS_OF_DRIFT = ["retained", "file", "row", "instance"];

/** Return the rows of a page whose first cell has names in backticks, by name; without the links. */
async function rows(page: string): Promise<[string, Advice][]> {
  const text = await readFile(new URL(`../docs/reference/${page}`, import.meta.url), "utf8");
  return text.split("\n").flatMap((line) => {
    const cells = /^\| (`.*) \| (.*) \| (.*) \|$/.exec(line)?.slice(1) ?? [];
    const [names = "", meaning = "", remedy = ""] = cells.map((cell) =>
      cell.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").trim(),
    );
    return [...names.matchAll(/`([^`]+)`/g)].map(([, name = ""]): [string, Advice] => [name, { meaning, remedy }]);
  });
}

function table(name: string, entries: [string, Advice][]): string {
  return `\nexport const ${name}: Record<string, Advice> = ${JSON.stringify(Object.fromEntries(entries))};\n`;
}

/** Return the text of the module. */
export async function adviceTexts(): Promise<string> {
  const drift = (await rows("drift.md")).filter(([name]) => KINDS_OF_DRIFT.includes(name));
  return HEAD + table("ALERTS", await rows("alerts.md")) + table("DRIFT", drift);
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await writeFile(new URL("src/screens/advice_texts.ts", import.meta.url), await adviceTexts());
