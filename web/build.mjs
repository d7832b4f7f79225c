// Bundle the console into src/aliciacfg/http/console/, which the daemon serves and the wheel ships.
// The same sources and lock file give the same bytes: a test builds again and compares.
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const web = dirname(fileURLToPath(import.meta.url));
const output = process.argv[2] ?? join(web, "../src/aliciacfg/http/console");

const result = await build({
  absWorkingDir: web,
  entryPoints: ["src/app.tsx", "src/app.css"],
  outdir: output,
  write: false,
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["chrome123", "firefox120", "safari17.5"],
  minify: true,
  legalComments: "none",
  metafile: true,
  // Only shared parts need a hash; a screen keeps its name.
  chunkNames: "[name]-[hash]",
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
});

/** Return the licences of every package of which the bundle contains code. */
async function licences(inputs) {
  const names = new Set();
  for (const input of inputs) {
    const [, name] = /^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input) ?? [];
    if (name !== undefined) names.add(name);
  }
  const texts = [];
  for (const name of [...names].sort()) {
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

await rm(output, { recursive: true, force: true });
await mkdir(output, { recursive: true });
for (const file of result.outputFiles) await writeFile(file.path, file.contents);
for (const name of ["index.html", "icon.svg"]) await cp(join(web, "src", name), join(output, name));
await writeFile(join(output, "LICENSES.txt"), await licences(Object.keys(result.metafile.inputs)));
for (const [path, { bytes }] of Object.entries(result.metafile.outputs)) {
  process.stdout.write(`${String(bytes).padStart(8)}  ${relative(output, join(web, path))}\n`);
}
