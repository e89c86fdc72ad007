// Runs the student beside the page. It takes {start: longest}, {samples}, {end}; it gives {ready}, {words, letters,
// tentative, seconds}, {ended}, {error}.
import * as ort from "./ort.wasm.min.mjs";
import { Pieces, Student } from "./student.js";

let student, pieces, waiting = [], busy = false, seconds = 0;

async function load() {
  ort.env.wasm.wasmPaths = new URL("./", self.location.href).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  const known = await (await fetch("model.json")).json();
  const session = await ort.InferenceSession.create("./model.onnx", { executionProviders: ["wasm"] });
  student = new Student(ort, session, known);
  await student.outputs(new Float32Array(known.sample_rate)); // the first run is slow
  self.postMessage({ ready: known });
}

async function timed(work, tentative) {
  const start = performance.now();
  const found = await work;
  seconds += (performance.now() - start) / 1000;
  self.postMessage({ words: found.words, letters: found.letters, tentative, seconds });
}

async function handle(message) {
  if (message.start) {
    pieces = new Pieces(student, message.start);
    seconds = 0;
  }
  if (message.samples) {
    pieces.add(message.samples);
    while (pieces.full) await timed(pieces.next(), false);
    if (message.live && !waiting.length) await timed(pieces.preview(), true);
  }
  if (message.end) {
    await timed(pieces.preview(), false);
    self.postMessage({ ended: true });
  }
}

self.onmessage = async ({ data }) => {
  waiting.push(data);
  if (busy) return;
  busy = true;
  try {
    while (waiting.length) await handle(waiting.shift());
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
  busy = false;
};

load().catch((error) => self.postMessage({ error: `The student did not load: ${error}` }));
