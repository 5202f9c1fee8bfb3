// Numbers for people. No line is broken between a number and its unit.

const UNITS = ["", "k", "M", "G", "T", "P", "E"];

/** FLOPs in a unit that can be read: 262 GFLOP. */
export function flops(number) {
  let rank = 0;
  while (number >= 999.5 && rank < UNITS.length - 1) {
    number /= 1000;
    rank += 1;
  }
  return `${Number(number.toPrecision(3))}\u00a0${UNITS[rank]}FLOP`;
}

export const count = (number) => number.toLocaleString("en");
export const share = (number) => `${Math.round(number * 100)}\u00a0%`;
export const ratio = (number) => (number < 10 ? number.toFixed(2) : number.toFixed(0));
export const value = (number) => number.toFixed(2);
export const plural = (number, one, many = `${one}s`) => `${count(number)}\u00a0${number === 1 ? one : many}`;

/** Seconds with as many digits as matter. */
export function seconds(number) {
  if (number < 0.0995) return `${(number * 1000).toFixed(number < 0.00995 ? 1 : 0)}\u00a0ms`;
  return `${number.toFixed(number < 9.95 ? 2 : 0)}\u00a0s`;
}

/** A text in one line, cut to so many characters. */
export function line(text, length) {
  const words = text.slice(0, 4 * length).trim().replace(/\s+/g, " ");
  return words.length > length ? `${words.slice(0, Math.max(length - 1, 0))}…` : words;
}
