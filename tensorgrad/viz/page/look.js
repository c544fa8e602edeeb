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
    return state.view === 'compare' ? (data.errors.get(tensor) ?? null) : data.grads.norm(tensor);
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
    const code = scale.code(flowAt(data, level, i, state.t));
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
    first: state.view === 'compare' ? level.first(t) : undefined,
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

/** What flows back along a wire; in the rolled picture at the timestep which is looked at, where it is known. */
function flowAt(data, level, i, t) {
  const { wires, boxes } = level;
  const whole = data.levels.get('op');
  const [tail, head] = [wires.tail[i], wires.head[i]];
  if (!level.rolled || !whole || tail < 0 || head < 0 || level.time(head) === null) return wires.flow[i];
  const { of, tensor } = data.series;
  const there = whole.boxOf(tensor(of[boxes.tensor[head]], t));
  if (there === undefined) return wires.flow[i];
  const isSame = (other) => of[whole.boxes.tensor[whole.wires.tail[other]]] === of[boxes.tensor[tail]];
  const found = whole.wiresInto[there].find(isSame);
  return found === undefined ? null : whole.wires.flow[found];
}
