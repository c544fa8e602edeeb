// What boxes and wires look like in each view: forward, backward, compare.

const UNLIT = 0.2;

/** The colours of the theme, which the style sheet keeps. */
function readPalette({ kinds, wires, hues }) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const each = (names, part) =>
    Object.fromEntries(Object.keys(names).map((name) => [name, color(`${part}-${name}`)]));
  const palette = { fill: each(kinds, 'fill'), line: each(kinds, 'line'), wire: each(wires, 'wire') };
  palette.hue = Array.from({ length: hues }, (_, i) => color(`hue-${i}`));
  for (const name of ['paper', 'ink', 'soft', 'frame', 'rim', 'accent', 'wrong']) palette[name] = color(name);
  return palette;
}

/** The looks of the boxes and wires of a level, for the state that the page is in. */
function makeLook(data, level, state, palette, scales) {
  const { boxes, wires } = level;
  const sort = (box) => data.tensors.sort(boxes.tensor[box]);

  function measure(box) {
    const tensor = level.tensorAt(box, state.t);
    if (state.view === 'backward') return data.grads.norm(tensor);
    return level.worst(box)?.error ?? data.errors.get(tensor) ?? null;
  }

  function plainBox(box) {
    const { kind } = sort(box);
    const { width, dashed } = data.pens.kinds[kind];
    const [fill, line] = [palette.fill[kind], palette.line[kind]];
    return {
      fill,
      line,
      ink: palette.ink,
      soft: palette.soft,
      width,
      dash: dashed ? [5, 3] : undefined,
      band: line,
    };
  }

  function coded(code, scale) {
    const [color, fill, ink] = [scale.color(code), scale.fill(code), scale.ink(code)];
    if (!fill) {
      const dash = code === ZERO ? [1.5, 3] : [5, 3];
      return {
        fill: palette.paper,
        line: color,
        width: code === ZERO ? 2 : 1,
        dash,
        ink: palette.ink,
        soft: palette.soft,
        band: color,
        code,
      };
    }
    const looks = {
      fill,
      line: code < STEPS ? palette.soft : color,
      width: 1,
      ink,
      soft: ink,
      band: color,
      code,
    };
    if (code === NAN) return { ...looks, width: 2, hatch: color };
    return code === INFINITE ? { ...looks, line: palette.ink, width: 4 } : looks;
  }

  function plainWire(i) {
    const { kind, hue } = wires.sort(i);
    const { width, head } = data.pens.wires[kind];
    const dash = kind === 'skip' ? [7, 3] : undefined;
    return { color: hue < 0 ? palette.wire[kind] : palette.hue[hue % palette.hue.length], width, head, dash };
  }

  function measuredWire(i, scale) {
    const flow = flowAt(data, level, i, state.t);
    if (flow === undefined) return plainWire(i);
    const code = scale.code(flow);
    const looks = { color: scale.color(code), width: thickness(code), head: 4 + thickness(code), code };
    if (code === ZERO) return { ...looks, dash: [1.5, 3] };
    if (code === UNKNOWN) return { ...looks, dash: [5, 3] };
    return code === NAN ? { ...looks, dash: [9, 3, 2, 3] } : looks;
  }

  const scale = scales[state.view];
  const { now, direction, t } = state;

  /** Whether a pass that is being played has reached a box. */
  function lit(box) {
    if (now === null) return true;
    let reached = now;
    if (level.rolled && level.time(box) !== null) reached = now % level.ticks;
    return direction > 0 ? level.when[box] <= reached : level.when[box] >= reached;
  }

  return {
    palette,
    view: state.view,
    t,
    // On paper no timestep is the one that is looked at.
    marked: state.marked ?? true,
    backwards: state.view === 'backward',
    first: state.view === 'compare' ? level.first : undefined,
    scale,
    box: scale ? (box) => coded(scale.code(measure(box)), scale) : plainBox,
    coded,
    wire: state.view === 'backward' ? (i) => measuredWire(i, scale) : plainWire,
    sort,
    name: (box) => data.tensors.name(boxes.tensor[box]),
    radius: (box) => data.pens.kinds[sort(box).kind].radius,
    lit,
    /** Whether it has reached the box just now. */
    fresh: (box) =>
      now !== null && Math.abs(level.when[box] - (level.rolled ? now % level.ticks : now)) < 1 && lit(box),
    litWire(i) {
      if (now === null) return true;
      const [tail, head] = [wires.tail[i], wires.head[i]];
      // A pass goes along a wire once it has reached the end that it leads to.
      const end = direction > 0 ? head : tail;
      return lit(end >= 0 ? end : Math.max(tail, head));
    },
  };
}

/** What flows back along a wire: null if nothing does, undefined if it was not measured, inside a checkpoint. */
function flowAt(data, level, i, t) {
  const found = wireInTime(data, level, i, t);
  if (!found) return null;
  const { flow, notOnRecord } = found.level.wires;
  return notOnRecord.has(found.wire) ? undefined : flow[found.wire];
}

/**
 * The wire of the rolled picture at a timestep, that of its head or else of its tail: a level that draws it, and its
 * number there; null where the timestep has no such wire. What is there once, or drawn nowhere else, is itself.
 */
function wireInTime(data, level, i, t, first = 'head') {
  const own = { level, wire: i };
  const at = { tail: level.wires.tail[i], head: level.wires.head[i] };
  // A rail, or a gather, has one end alone, and carries what it carries for all timesteps.
  if (!level.rolled || at.tail < 0 || at.head < 0) return own;
  const near = [first, 'head', 'tail'].find((end) => level.time(at[end]) !== null);
  if (!near) return own;
  const found = drawnWire(data, level, i, t, near);
  if (found !== null) return found ?? own;
  // Even the timestep that is drawn for all has none: it joins what two sequences do at their ends.
  return drawnWire(data, level, i, level.time(at[near]), near) ? null : own;
}

/** The same in another level; undefined if no level draws the end that it is to be found by. */
function drawnWire({ levels, series }, level, i, t, near) {
  const far = near === 'head' ? 'tail' : 'head';
  const [here, there] = [near, far].map((end) => level.boxes.tensor[level.wires[end][i]]);
  const between = (one, box, tensor) =>
    (near === 'head' ? one.wiresInto : one.wiresFrom)[box].filter(
      (wire) => series.of[one.boxes.tensor[one.wires[far][wire]]] === series.of[tensor],
    );
  // Of several between the same two boxes, such as h and c of one cell, the one in the same place.
  const place = between(level, level.boxOf(here), there).indexOf(i);
  let found;
  // A wire may stand for several operations, which only the level of the cells draws as one.
  for (const whole of ['op', 'cell'].map((name) => levels.get(name)).filter(Boolean)) {
    const box = whole.boxOf(series.tensor(series.of[here], t));
    if (box === undefined) continue;
    const wire = between(whole, box, there)[place];
    if (wire !== undefined) return { level: whole, wire };
    found = null;
  }
  return found;
}
