// The spectrogram, and the letters below where they were heard.

const SIZE = 512, LETTERS = 36; // samples of a spectrum, pixels for the letters
const table = (make, count) => Float32Array.from({ length: count }, (_, i) => make(i));
const COS = table((i) => Math.cos((2 * Math.PI * i) / SIZE), SIZE), SIN = table((i) => Math.sin((2 * Math.PI * i) / SIZE), SIZE);
const REVERSED = table((i) => {
  let reversed = 0;
  for (let bit = 1; bit < SIZE; bit <<= 1, i >>= 1) reversed = (reversed << 1) | (i & 1);
  return reversed;
}, SIZE);

/** The power spectrum of SIZE samples around `at`: SIZE / 2 numbers. A plain FFT in place. */
function spectrum(audio, at) {
  const real = new Float32Array(SIZE), imaginary = new Float32Array(SIZE);
  for (let i = 0; i < SIZE; i++) real[REVERSED[i]] = (audio[at - SIZE / 2 + i] ?? 0) * (0.5 - 0.5 * COS[i]);
  for (let half = 1; half < SIZE; half <<= 1) {
    const turn = SIZE / (2 * half);
    for (let k = 0; k < half; k++) {
      const cos = COS[k * turn], sin = -SIN[k * turn];
      for (let i = k; i < SIZE; i += 2 * half) {
        const j = i + half;
        const re = real[j] * cos - imaginary[j] * sin, im = real[j] * sin + imaginary[j] * cos;
        real[j] = real[i] - re;
        imaginary[j] = imaginary[i] - im;
        real[i] += re;
        imaginary[i] += im;
      }
    }
  }
  return real.subarray(0, SIZE / 2).map((value, i) => value * value + imaginary[i] * imaginary[i]);
}

/** Seconds `from` to `from + length` of the audio. */
export function draw(canvas, audio, rate, letters, from, length) {
  const { width } = canvas, height = canvas.height - LETTERS, context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  context.fillStyle = style.backgroundColor;
  context.fillRect(0, 0, width, canvas.height);
  const picture = context.createImageData(width, height);
  for (let x = 0; x < width; x += 2) {
    const at = Math.round((from + (x / width) * length) * rate);
    if (at >= audio.length) break;
    const power = spectrum(audio, at);
    for (let y = 0; y < height; y++) {
      const decibels = 10 * Math.log10(power[Math.floor(((height - 1 - y) / height) * power.length)] + 1e-9);
      const level = Math.max(0, Math.min(1, (decibels + 50) / 80));
      const colour = [255 * level ** 2, 220 * level ** 1.3, 90 + 120 * level, 255];
      picture.data.set([...colour, ...colour], 4 * (y * width + x));
    }
  }
  context.putImageData(picture, 0, 0);
  context.fillStyle = style.color;
  context.font = "16px system-ui, sans-serif";
  context.textAlign = "center";
  for (const { text, start, end } of letters) {
    const x = (((start + end) / 2 - from) / length) * width;
    if (x >= 0 && x < width) context.fillText(text, x, height + 24);
  }
}
