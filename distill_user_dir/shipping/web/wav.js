/** Samples as a WAV file of 32-bit floats. */
export function wav(samples, rate) {
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, characters) => [...characters].forEach((one, i) => head.setUint8(at + i, one.charCodeAt(0)));
  const bytes = 4 * samples.length;
  text(0, "RIFF");
  head.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true); // bytes of what follows
  head.setUint16(20, 3, true); // floats
  head.setUint16(22, 1, true); // channels
  head.setUint32(24, rate, true);
  head.setUint32(28, 4 * rate, true);
  head.setUint16(32, 4, true);
  head.setUint16(34, 32, true);
  text(36, "data");
  head.setUint32(40, bytes, true);
  return new Blob([head, samples], { type: "audio/wav" });
}
