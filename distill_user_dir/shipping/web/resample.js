/** Samples that come block by block, at another rate: a windowed sinc, of 16 zero crossings at each side. */
export class Resampler {
  constructor(from, to) {
    this.step = from / to;
    this.width = 16 * Math.max(1, this.step); // samples at each side
    this.cutoff = Math.min(1, 1 / this.step);
    this.samples = new Float32Array(Math.ceil(this.width)); // what came before is silence
    this.at = this.samples.length; // the place of the next sample in what is kept
  }

  /** Float32Array -> Float32Array. */
  push(block) {
    if (this.step === 1) return block;
    const kept = new Float32Array(this.samples.length + block.length);
    kept.set(this.samples);
    kept.set(block, this.samples.length);
    const found = [];
    for (; this.at + this.width < kept.length; this.at += this.step) {
      let sum = 0;
      for (let i = Math.ceil(this.at - this.width); i <= this.at + this.width; i++) {
        const x = (i - this.at) * this.cutoff;
        const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
        sum += kept[i] * sinc * this.cutoff * (0.5 + 0.5 * Math.cos((Math.PI * (i - this.at)) / this.width));
      }
      found.push(sum);
    }
    const drop = Math.max(0, Math.floor(this.at - this.width));
    this.samples = kept.slice(drop);
    this.at -= drop;
    return Float32Array.from(found);
  }
}
