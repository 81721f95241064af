// Compiles a schema with ajv as it is by default, which is strict, and writes what it finds in each line of a log.
// node validate.mjs FOLDER-WITH-node_modules SCHEMA LOG
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, schema, log] = process.argv.slice(2);
const Ajv = createRequire(`${folder}/`)("ajv/dist/2020").default;
const validate = new Ajv().compile(JSON.parse(readFileSync(schema, "utf8")));
for (const line of readFileSync(log, "utf8").split("\n").filter(Boolean)) {
  const valid = validate(JSON.parse(line));
  console.log(valid ? "valid" : JSON.stringify(validate.errors.map((error) => `${error.instancePath} ${error.message}`)));
}
