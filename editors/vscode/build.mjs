// Bundles the extension into dist/extension.js; with --test also each test (and the stand-in server) into out/.
import { build } from "esbuild";
import { readdirSync, rmSync } from "node:fs";

const flags = process.argv.slice(2);
const shared = { bundle: true, platform: "node", target: "node20", format: "cjs", logLevel: "warning" };
await build({
  ...shared,
  entryPoints: ["src/extension.ts"],
  outfile: "dist/extension.js",
  external: ["vscode"],
  minify: flags.includes("--minify"),
});
if (flags.includes("--test")) {
  rmSync("out", { recursive: true, force: true });
  const entryPoints = readdirSync("test").filter((name) => name.endsWith(".ts")).map((name) => `test/${name}`);
  await build({ ...shared, entryPoints, outdir: "out", sourcemap: "inline" });
}
