// Numbers as words, and numbers as colours.

const LONGEST_IN_A_SENTENCE = 120;

/** A number in few letters; null is one that nobody has measured. */
function say(x) {
  if (x === null || x === undefined) return 'not known';
  if (Number.isNaN(x)) return 'NaN';
  if (!Number.isFinite(x)) return x > 0 ? '∞' : '-∞';
  if (x === 0) return '0';
  const size = Math.abs(x);
  return size >= 1e-3 && size < 1e5 ? String(Number(x.toPrecision(4))) : x.toExponential(2);
}

/** The beginning of a text that may be of any length. */
function shortened(text, most = LONGEST_IN_A_SENTENCE) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function counted(n, what) {
  return `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`;
}

// The codes of colours: 0 to STEPS - 1 along the scale, and those that stand outside of it.
const STEPS = 64;
const ZERO = STEPS;
const UNKNOWN = STEPS + 1;
const NAN = STEPS + 2;
const INFINITE = STEPS + 3;
const AGREES = STEPS + 4;
const OUTSIDE = {
  [ZERO]: 'zero',
  [UNKNOWN]: 'unknown',
  [NAN]: 'nan',
  [INFINITE]: 'infinite',
  [AGREES]: 'agrees',
};

/** Colours for numbers from 0 up, by their logarithm or, of a share, by themselves. */
function makeScale({ ramp, special }, spec) {
  const { low, high, linear, tolerance } = spec;
  const colors = Array.from({ length: STEPS }, (_, i) => blend(ramp, i / (STEPS - 1)));
  const fills = [...colors];
  for (const kind of Object.values(OUTSIDE)) {
    colors.push(special[kind].color);
    fills.push(special[kind].fill);
  }
  const inks = fills.map((color) => (!color || lightness(color) > 0.179 ? '#111111' : '#ffffff'));

  function code(x) {
    if (x === null || x === undefined) return UNKNOWN;
    if (Number.isNaN(x)) return NAN;
    if (!Number.isFinite(x)) return INFINITE;
    if (tolerance && x <= tolerance) return AGREES;
    if (x === 0) return ZERO;
    const place = ((linear ? x : Math.log10(Math.abs(x))) - low) / (high - low);
    return Math.max(0, Math.min(STEPS - 1, Math.round(place * (STEPS - 1))));
  }

  return {
    ...spec,
    code,
    /** The colour of a line; that of an area, empty for none; and of a text on that area. */
    color: (c) => colors[c],
    fill: (c) => fills[c],
    ink: (c) => inks[c],
  };
}

/** How thick a line is whose number has this code. */
function thickness(code) {
  if (code >= STEPS) return { [NAN]: 3, [INFINITE]: 9 }[code] ?? 1.5;
  return 1 + (5 * code) / (STEPS - 1);
}

/** The most urgent of what falls on one point of the screen comes out on top. */
function urgency(code) {
  if (code === NAN || code === INFINITE) return STEPS + code;
  return code >= STEPS ? -code : code;
}

function channels(color) {
  return [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
}

function blend(anchors, place) {
  const at = place * (anchors.length - 1);
  const i = Math.min(Math.floor(at), anchors.length - 2);
  const [from, to] = [channels(anchors[i]), channels(anchors[i + 1])];
  const mixed = from.map((c, k) => Math.round(c + (to[k] - c) * (at - i)));
  return `#${mixed.map((c) => c.toString(16).padStart(2, '0')).join('')}`;
}

/** The relative luminance of WCAG 2.2. */
function lightness(color) {
  const [r, g, b] = channels(color).map((c) => {
    const s = c / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
