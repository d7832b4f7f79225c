// Bundle the console into src/aliciacfg/http/console/, which the daemon serves and the wheel ships.
// The same sources and lock file give the same bytes: a test builds again and compares.
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { browserslistToTargets, bundle } from "lightningcss";
import { rolldown } from "rolldown";

const web = dirname(fileURLToPath(import.meta.url));
const output = process.argv[2] ?? join(web, "../src/aliciacfg/http/console");
const BROWSERS = ["chrome 123", "firefox 124", "safari 17.5"];

/** Return the name of the package that a module belongs to; undefined for the console's own. */
function packageOf(module) {
  return /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(module)?.[1];
}

/** Return the licences of packages. */
async function licences(names) {
  const texts = [];
  for (const name of names) {
    const root = join(web, "node_modules", name);
    const about = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    let text = "";
    for (const file of ["LICENSE", "LICENSE.md", "LICENSE.txt", "license"]) {
      text ||= await readFile(join(root, file), "utf8").catch(() => "");
    }
    texts.push(`${name} ${about.version} (${about.license})\n\n${text.trim()}\n`);
  }
  return `The files of the console contain code of these packages.\n\n${texts.join(`\n${"-".repeat(80)}\n\n`)}`;
}

const bundled = await rolldown({
  cwd: web,
  input: { app: join(web, "src/app.tsx") },
  platform: "browser",
  tsconfig: join(web, "tsconfig.json"),
  transform: { target: BROWSERS.map((browser) => browser.replace(" ", "")) },
});
// Names without a hash: the daemon sends an ETag with each file, and a browser asks whether its copy is the present one.
const { output: chunks } = await bundled.generate({
  format: "esm",
  minify: true,
  comments: false,
  entryFileNames: "[name].js",
  chunkFileNames: "[name].js",
});
const files = new Map(chunks.map((chunk) => [chunk.fileName, chunk.code]));
const { code: style } = bundle({
  filename: join(web, "src/app.css"),
  minify: true,
  targets: browserslistToTargets(BROWSERS),
});
files.set("app.css", style);
const used = new Set(chunks.flatMap((chunk) => Object.keys(chunk.modules).map(packageOf)));
used.delete(undefined);
files.set("LICENSES.txt", await licences([...used].sort()));

await rm(output, { recursive: true, force: true });
await mkdir(output, { recursive: true });
for (const [name, content] of files) await writeFile(join(output, name), content);
for (const name of ["index.html", "icon.svg"]) await cp(join(web, "src", name), join(output, name));
for (const [name, content] of files) process.stdout.write(`${String(content.length).padStart(8)}  ${name}\n`);
