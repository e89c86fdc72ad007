// What the page shows and asks: the microphone or a file goes to the worker, words come back.
import { draw } from "./draw.js";
import { wav } from "./wav.js";

const PIECE = { file: 15, live: 10 }, SHOWN = 8; // seconds at a time, and in the picture
const byId = (id) => document.getElementById(id);
const tell = (text) => { byId("status").textContent = text; };
const worker = new Worker("worker.js", { type: "module" });
let known, audio = new Float32Array(0), size = 0, letters = [], tentative = [];
let session = 0, microphone, follow = true, drawing = false, focused;

function enable(yes) {
  if (!known) return;
  byId("microphone").disabled = byId("file").disabled = !yes;
  byId("save").disabled = !yes || !size;
  if (yes && document.activeElement === document.body) focused?.focus(); // what was disabled has lost it
}

/** While something goes on, nothing else begins. */
function disable() {
  focused = document.activeElement;
  enable(false);
}

function fail(text) {
  byId("error").textContent = text;
  tell("");
  enable(true);
}

function begin(longest) {
  session += 1;
  audio = new Float32Array(0);
  size = 0;
  letters = [];
  tentative = [];
  follow = true;
  delete document.body.dataset.ended;
  for (const id of ["final", "tentative", "error"]) byId(id).textContent = "";
  worker.postMessage({ session, longest });
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
  worker.postMessage({ session, samples, live });
}

function show() {
  const place = byId("place");
  place.max = Math.max(0, size / known.sample_rate - SHOWN).toFixed(1);
  if (follow) place.value = place.max;
  byId("from").textContent = Number(place.value).toFixed(1);
  place.setAttribute("aria-valuetext", `${byId("from").textContent} seconds`);
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw(byId("picture"), audio.subarray(0, size), known.sample_rate, [...letters, ...tentative], Number(place.value), SHOWN);
  });
}

function showWords(data) {
  const text = data.words.map(({ word }) => word).join(" ");
  byId("tentative").textContent = data.tentative ? text : "";
  if (!data.tentative && text) byId("final").append(`${text} `);
  tentative = data.tentative ? data.letters : [];
  if (!data.tentative) letters.push(...data.letters);
  const speed = data.took ? `, ${(data.heard / data.took).toFixed(0)} times real time` : "";
  byId("speed").textContent = `${(size / known.sample_rate).toFixed(1)} s of audio${speed}`;
  show();
}

worker.onmessage = ({ data }) => {
  if (data.ready) {
    known = data.ready;
    tell("Ready.");
    enable(true);
  }
  if (data.session !== undefined && data.session !== session) return;
  if (data.words) showWords(data);
  if (data.ended) {
    document.body.dataset.ended = "yes";
    tell("Done.");
    enable(true);
  }
  if (data.error) fail(data.error);
};
worker.onerror = () => fail("The student did not load; the web server has to send .js files as JavaScript.");

async function recognise(file) {
  disable();
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
    if (samples.every((value) => value === samples[0])) throw new Error("silent, all of its samples are the same");
    for (let at = 0; at < samples.length; at += 10 * known.sample_rate) add(samples.slice(at, at + 10 * known.sample_rate), false);
    worker.postMessage({ session, end: true });
  } catch (error) {
    fail(`${file.name}: nothing to recognise (${error.message})`);
  }
}

/** The microphone's node; Firefox has it only at the microphone's own rate. */
async function connected(stream, options) {
  const context = new AudioContext(options);
  try {
    await context.audioWorklet.addModule("recorder.js");
    const settings = { numberOfOutputs: 0, processorOptions: { rate: known.sample_rate } };
    const recorder = new AudioWorkletNode(context, "recorder", settings);
    context.createMediaStreamSource(stream).connect(recorder);
    return { stream, context, recorder };
  } catch (error) {
    await context.close();
    if (!options) throw error;
    return connected(stream);
  }
}

async function listen() {
  if (!navigator.mediaDevices) return fail("Browsers give the microphone to https and to localhost only.");
  disable();
  let stream;
  try {
    const processing = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...processing } });
    microphone = await connected(stream, { sampleRate: known.sample_rate });
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    return fail(`The microphone: ${error.message}`);
  }
  begin(PIECE.live);
  microphone.recorder.port.onmessage = ({ data }) => {
    add(data, true);
    show();
  };
  tell("Listening.");
  byId("microphone").textContent = "Stop";
  byId("microphone").className = "listening";
  byId("microphone").disabled = false;
  byId("microphone").focus();
}

async function stop() {
  const { stream, context, recorder } = microphone;
  microphone = undefined;
  disable();
  stream.getTracks().forEach((track) => track.stop());
  recorder.port.onmessage = null; // what it still has comes too late
  await context.close();
  byId("microphone").textContent = "Use the microphone";
  byId("microphone").className = "";
  worker.postMessage({ session, end: true });
}

byId("microphone").onclick = () => (microphone ? stop() : listen());
byId("file").onchange = ({ target }) => {
  if (target.files.length) recognise(target.files[0]);
  target.value = "";
};
byId("save").onclick = () => {
  const url = URL.createObjectURL(wav(audio.subarray(0, size), known.sample_rate));
  Object.assign(document.createElement("a"), { href: url, download: "recording.wav" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};
byId("place").oninput = ({ target }) => {
  follow = target.value === target.max;
  show();
};
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("over");
};
document.ondragleave = () => document.body.classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length && !byId("file").disabled) recognise(event.dataTransfer.files[0]);
};
tell("Loading the student…");
