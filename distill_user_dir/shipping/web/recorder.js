// In the browser's audio thread: passes the microphone's samples on at the student's rate, a tenth of a second at a time.
import { Resampler } from "./resample.js";

registerProcessor(
  "recorder",
  class extends AudioWorkletProcessor {
    constructor({ processorOptions: { rate } }) {
      super();
      this.resampler = new Resampler(sampleRate, rate);
      this.block = new Float32Array(rate / 10);
      this.size = 0;
    }

    process([input]) {
      for (const sample of this.resampler.push(input[0] ?? new Float32Array(0))) {
        this.block[this.size++] = sample;
        if (this.size === this.block.length) {
          this.port.postMessage(this.block);
          this.size = 0;
        }
      }
      return true;
    }
  },
);
