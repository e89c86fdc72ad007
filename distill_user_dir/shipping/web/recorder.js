// In the browser's audio thread: passes the microphone's samples on, a tenth of a second at a time.
registerProcessor(
  "recorder",
  class extends AudioWorkletProcessor {
    constructor() {
      super();
      this.block = new Float32Array(sampleRate / 10);
      this.size = 0;
    }

    process([input]) {
      for (const sample of input[0] ?? []) {
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
