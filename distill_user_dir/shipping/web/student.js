// A student in onnxruntime-web, and what transcribe.py makes of its outputs: the same words, cut at the same places.

const BLANK = 0, WORD_END = "|", WORD_START = "\u2581", PAUSE = 0.3, OVERLAP = 4;

/** known: model.json; the session takes one recording at a time. */
export class Student {
  constructor(ort, session, known) {
    Object.assign(this, { ort, session, known });
    this.frame = known.frame_shift / known.sample_rate; // seconds
  }

  /** Float32Array of samples -> {data: log-probabilities, a row of `units` each of `frames`}. */
  async outputs(audio) {
    const size = Math.max(audio.length, this.known.shortest);
    const padded = new Float32Array(size);
    padded.set(audio);
    const { Tensor } = this.ort;
    const found = await this.session.run({
      audio: new Tensor("float32", padded, [1, size]),
      lengths: new Tensor("int64", BigInt64Array.of(BigInt(audio.length)), [1]),
    });
    const { log_probs: scores, frames } = found;
    return { data: scores.data, frames: Number(frames.data[0]), units: scores.dims[2] };
  }
}

/** The likeliest unit of each frame. */
function bestPath({ data, frames, units }) {
  const path = new Int32Array(frames);
  for (let t = 0; t < frames; t++) {
    let best = 0;
    for (let v = 1; v < units; v++) if (data[t * units + v] > data[t * units + best]) best = v;
    path[t] = best;
  }
  return path;
}

/** Runs of one unit, as [unit, first frame, frame behind the last]; blanks are left out. */
function runsOf(path) {
  const runs = [];
  for (let start = 0, end = 1; end <= path.length; end++) {
    if (end < path.length && path[end] === path[start]) continue;
    if (path[start] !== BLANK) runs.push([path[start], start, end]);
    start = end;
  }
  return runs;
}

/** -> [{word, start, end}], in seconds. */
function wordsOf(runs, { symbols, units }, frame) {
  const words = [];
  let inside = false;
  for (const [unit, start, end] of runs) {
    const symbol = symbols[unit];
    if (units === "letter" && (symbol === WORD_END || symbol === "")) {
      inside = false;
      continue;
    }
    if (!inside || (units === "sentencepiece" && symbol.startsWith(WORD_START))) words.push({ word: "", start: start * frame });
    const word = words[words.length - 1];
    word.word += symbol.replaceAll(WORD_START, "");
    word.end = end * frame;
    inside = true;
  }
  return words.filter(({ word }) => word);
}

/** The middle frame of the last pause behind a word, in the second half of the frames; -1 where there is none. */
function pauseIn(path, { symbols, units }, shortest) {
  const ends = (unit) => unit === BLANK || (units === "letter" && symbols[unit] === WORD_END);
  for (let end = path.length; end > 0; end--) {
    if (!ends(path[end - 1])) continue;
    let start = end;
    let separated = units !== "letter";
    for (; start > 0 && ends(path[start - 1]); start--) separated ||= symbols[path[start - 1]] === WORD_END;
    const middle = Math.floor((start + end) / 2);
    if (end - start >= shortest && (separated || start === 0) && middle >= Math.floor(path.length / 2)) return middle;
    end = start;
  }
  return -1;
}

const middle = ({ start, end }) => (start + end) / 2;

/** The words of a recording that comes bit by bit, in pieces of at most `longest` seconds. */
export class Pieces {
  constructor(student, longest) {
    const samples = (seconds) => Math.trunc(seconds / student.frame) * student.known.frame_shift;
    Object.assign(this, { student, most: samples(longest), shared: samples(Math.min(OVERLAP, longest / 3)) });
    Object.assign(this, { buffer: new Float32Array(0), offset: 0, heard: -1, done: 0 }); // done: samples behind offset
  }

  add(samples) {
    const longer = new Float32Array(this.buffer.length + samples.length);
    longer.set(this.buffer);
    longer.set(samples, this.buffer.length);
    this.buffer = longer;
  }

  /** Whether there is more than a piece. */
  get full() {
    return this.buffer.length > this.most;
  }

  async scored() {
    if (this.buffer.length < this.student.known.window) return null;
    const { known, frame } = this.student;
    const path = bestPath(await this.student.outputs(this.buffer.subarray(0, this.most)));
    const start = this.offset / known.sample_rate;
    const moved = (one) => ({ ...one, start: one.start + start, end: one.end + start });
    const runs = runsOf(path);
    const letters = runs.map(([unit, a, b]) => ({ text: known.symbols[unit], start: a * frame, end: b * frame }));
    const fresh = (one) => middle(one) > this.heard;
    return { path, words: wordsOf(runs, known, frame).map(moved).filter(fresh), letters: letters.map(moved).filter(fresh) };
  }

  /** What the audio of the moment says, without an end to it. */
  async preview() {
    return (await this.scored()) ?? { words: [], letters: [] };
  }

  /** The words of what is left. */
  async last() {
    const found = await this.preview();
    this.done = this.buffer.length;
    return found;
  }

  /** The words up to a pause, or else to the middle of what the next piece will have too. */
  async next() {
    const { path, words, letters } = await this.scored();
    const { known, frame } = this.student;
    const cut = pauseIn(path, known, Math.trunc(PAUSE / frame));
    const step = cut < 0 ? this.most - this.shared : cut * known.frame_shift;
    const until = (this.offset + (cut < 0 ? this.most - this.shared / 2 : step)) / known.sample_rate;
    const later = (one) => middle(one) > until;
    const now = words.filter((one) => !later(one));
    const rest = words.filter(later);
    const last = now[now.length - 1];
    this.heard = cut >= 0 ? -1 : last && rest.length ? (last.end + rest[0].start) / 2 : until;
    this.buffer = this.buffer.slice(step);
    this.offset += step;
    return { words: now, letters: letters.filter((one) => !later(one)) };
  }
}
