// What the page shows and asks: the microphone or a file goes to the worker, words come back.
import { draw } from "./draw.js";

const PIECE = { file: 30, live: 10 }, SHOWN = 8; // seconds at a time, and in the picture
const byId = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
let known, audio = new Float32Array(0), size = 0, letters = [], tentative = [], microphone, follow = true, drawing = false;

function tell(text) {
  byId("status").textContent = text;
}

function fail(text) {
  byId("error").textContent = text;
  enable(true);
}

function enable(yes) {
  byId("microphone").disabled = byId("file").disabled = !yes;
  byId("save").disabled = !yes || !size;
}

function begin(longest) {
  audio = new Float32Array(0);
  size = 0;
  letters = tentative = [];
  follow = true;
  for (const id of ["final", "tentative", "error"]) byId(id).textContent = "";
  worker.postMessage({ start: longest });
}

/** Samples to keep, to show and to recognise. */
function add(samples, live) {
  if (size + samples.length > audio.length) {
    const longer = new Float32Array(Math.max(2 * audio.length, size + samples.length));
    longer.set(audio);
    audio = longer;
  }
  audio.set(samples, size);
  size += samples.length;
  worker.postMessage({ samples, live });
}

function show() {
  const seconds = size / known.sample_rate, place = byId("place");
  place.max = Math.max(0, seconds - SHOWN).toFixed(1);
  if (follow) place.value = place.max;
  byId("from").textContent = Number(place.value).toFixed(1);
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw(byId("picture"), audio.subarray(0, size), known.sample_rate, [...letters, ...tentative], Number(place.value), SHOWN);
  });
}

worker.onmessage = ({ data }) => {
  if (data.ready) {
    known = data.ready;
    tell("Ready.");
    enable(true);
  }
  if (data.words) {
    const text = data.words.map(({ word }) => word).join(" ");
    byId("tentative").textContent = data.tentative ? text : "";
    if (!data.tentative && text) byId("final").append(`${text} `);
    tentative = data.tentative ? data.letters : [];
    if (!data.tentative) letters.push(...data.letters);
    const seconds = size / known.sample_rate;
    tell(`${seconds.toFixed(1)} s of audio, ${(seconds / data.seconds).toFixed(0)} times real time`);
    show();
  }
  if (data.ended) {
    document.body.dataset.ended = "yes";
    enable(true);
  }
  if (data.error) fail(data.error);
};

async function recognise(file) {
  enable(false);
  delete document.body.dataset.ended;
  begin(PIECE.file);
  tell(`Reading ${file.name}…`);
  try {
    const context = new OfflineAudioContext(1, 1, known.sample_rate);
    const decoded = await context.decodeAudioData(await file.arrayBuffer());
    const samples = new Float32Array(decoded.length);
    for (let c = 0; c < decoded.numberOfChannels; c++) {
      decoded.getChannelData(c).forEach((value, i) => { samples[i] += value / decoded.numberOfChannels; });
    }
    if (samples.length < known.window) throw new Error("too short for a frame");
    for (let at = 0; at < samples.length; at += 10 * known.sample_rate) add(samples.slice(at, at + 10 * known.sample_rate), false);
    worker.postMessage({ end: true });
  } catch (error) {
    fail(`${file.name}: no audio that this browser reads (${error.message})`);
  }
}

async function listen() {
  const processing = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...processing } });
    const context = new AudioContext({ sampleRate: known.sample_rate });
    await context.audioWorklet.addModule("recorder.js");
    const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    delete document.body.dataset.ended;
    begin(PIECE.live);
    recorder.port.onmessage = ({ data }) => {
      add(data, true);
      show();
    };
    context.createMediaStreamSource(stream).connect(recorder);
    microphone = { stream, context, recorder };
    byId("file").disabled = byId("save").disabled = true;
    byId("microphone").textContent = "Stop";
    byId("microphone").setAttribute("aria-pressed", "true");
  } catch (error) {
    fail(`The microphone: ${error.message}`);
  }
}

async function stop() {
  const { stream, context, recorder } = microphone;
  microphone = undefined;
  stream.getTracks().forEach((track) => track.stop());
  recorder.port.onmessage = null; // what it still has comes too late
  await context.close();
  byId("microphone").textContent = "Use the microphone";
  byId("microphone").setAttribute("aria-pressed", "false");
  worker.postMessage({ end: true });
}

/** The samples as a WAV file of 32-bit floats. */
function wav() {
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, characters) => [...characters].forEach((one, i) => head.setUint8(at + i, one.charCodeAt(0)));
  const number = (at, value, bytes) => head[`setUint${8 * bytes}`](at, value, true);
  text(0, "RIFF");
  number(4, 36 + 4 * size, 4);
  text(8, "WAVEfmt ");
  [[16, 16, 4], [20, 3, 2], [22, 1, 2], [24, known.sample_rate, 4], [28, 4 * known.sample_rate, 4], [32, 4, 2], [34, 32, 2]].forEach((one) => number(...one));
  text(36, "data");
  number(40, 4 * size, 4);
  return new Blob([head, audio.subarray(0, size)], { type: "audio/wav" });
}

byId("microphone").onclick = () => (microphone ? stop() : listen());
byId("file").onchange = ({ target }) => {
  if (target.files.length) recognise(target.files[0]);
  target.value = "";
};
byId("save").onclick = () => {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(wav()), download: "recording.wav" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
byId("place").oninput = ({ target }) => {
  follow = target.value === target.max;
  show();
};
document.body.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("over");
};
document.body.ondragleave = () => document.body.classList.remove("over");
document.body.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length && !byId("file").disabled) recognise(event.dataTransfer.files[0]);
};
