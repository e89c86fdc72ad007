// node check.mjs FOLDER: what the exported folder gives for each recording of float32 samples on standard input.
// In: for each, a line of its bytes' number, then the bytes. Out: a line of JSON for each.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const folder = process.argv[2];
const ort = await import(pathToFileURL(`${folder}/ort.wasm.min.js`));
const { Pieces, Student } = await import(pathToFileURL(`${folder}/student.js`));
const here = (name) => pathToFileURL(`${folder}/${name}`).href;
ort.env.wasm.wasmPaths = { mjs: here("ort-wasm-simd-threaded.js"), wasm: here("ort-wasm-simd-threaded.wasm") };
ort.env.wasm.numThreads = 1;
const known = JSON.parse(readFileSync(`${folder}/model.json`));
const session = await ort.InferenceSession.create(readFileSync(`${folder}/model.onnx`), { executionProviders: ["wasm"] });
const student = new Student(ort, session, known);
const input = readFileSync(0);
for (let at = 0; at < input.length; ) {
  const end = input.indexOf(10, at), bytes = Number(input.subarray(at, end));
  const audio = new Float32Array(input.buffer.slice(input.byteOffset + end + 1, input.byteOffset + end + 1 + bytes));
  at = end + 1 + bytes;
  const { data, frames, units } = await student.outputs(audio);
  const pieces = new Pieces(student, 1e6), words = [];
  pieces.add(audio);
  words.push(...(await pieces.last()).words);
  console.log(JSON.stringify({ frames, units, data: Buffer.from(data.buffer, data.byteOffset, 4 * frames * units).toString("base64"), words }));
}
