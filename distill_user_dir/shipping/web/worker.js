// Runs the student beside the page. It takes {session, longest}, {session, samples, live}, {session, end}; it gives
// {ready}, and for a session {words, letters, tentative, heard, took}, {ended}, {error}; heard, took: seconds of audio
// that are done, and of work.
import * as ort from "./ort.wasm.min.js";
import { Pieces, Student } from "./student.js";

let student, pieces, waiting = [], busy = false, took = 0;

async function load() {
  const here = (name) => new URL(name, self.location.href).href;
  ort.env.wasm.wasmPaths = { mjs: here("ort-wasm-simd-threaded.js"), wasm: here("ort-wasm-simd-threaded.wasm") };
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  const known = await (await fetch("model.json")).json();
  const session = await ort.InferenceSession.create("./model.onnx", { executionProviders: ["wasm"] });
  student = new Student(ort, session, known);
  await student.outputs(new Float32Array(known.sample_rate)); // the first run is slow
  self.postMessage({ ready: known });
}

async function timed(session, work, tentative) {
  const start = performance.now();
  const { words, letters } = await work();
  if (!tentative) took += (performance.now() - start) / 1000;
  const heard = (pieces.offset + (tentative ? 0 : pieces.done)) / student.known.sample_rate;
  self.postMessage({ session, words, letters, tentative, heard, took });
}

async function handle({ session, longest, samples, live, end }) {
  if (longest) {
    pieces = new Pieces(student, longest);
    took = 0;
  }
  if (samples) {
    pieces.add(samples);
    while (pieces.full) await timed(session, () => pieces.next(), false);
    if (live && !waiting.length) await timed(session, () => pieces.preview(), true);
  }
  if (end) {
    await timed(session, () => pieces.last(), false);
    self.postMessage({ session, ended: true });
  }
}

self.onmessage = async ({ data }) => {
  waiting.push(data);
  if (busy) return;
  busy = true;
  try {
    while (waiting.length) await handle(waiting.shift());
  } catch (error) {
    self.postMessage({ session: data.session, error: String(error), ended: true });
    waiting = [];
  }
  busy = false;
};

load().catch((error) => self.postMessage({ error: `The student did not load: ${error}` }));
