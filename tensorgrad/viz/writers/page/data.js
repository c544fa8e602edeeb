// What Python wrote, unpacked: tensors, which of them correspond through time, and the levels that show them.

const MOST_STEPS_OF_A_BLOCK = 100_000;

function readData(raw) {
  const texts = raw.texts;
  const frames = readFrames(raw.frames, texts);
  const tensors = readTensors(raw, frames, texts);
  const series = readSeries(tensors, frames);
  // The states of a cell that makes several, by its tensor.
  const states = new Map(
    Object.entries(raw.states).map(([cell, all]) => [
      Number(cell),
      all.map(([tensor, name]) => ({ tensor, name: texts[name] })),
    ]),
  );
  const data = {
    title: raw.title,
    frames,
    tensors,
    series,
    first: raw.first,
    words: raw.words,
    notes: raw.notes,
    strips: raw.strips.map((strip) => ({ ...strip, values: strip.values.map(decoded) })),
    triangle: raw.triangle && { ...raw.triangle, norms: raw.triangle.norms.map(decoded) },
    ramp: raw.ramp,
    special: raw.special,
    scales: raw.scales,
    pens: raw.pens,
    styles: raw.styles,
    states,
    values: readNumbers(raw.values, tensors.count, states),
    grads: readNumbers(raw.grads, tensors.count, states),
    thumbs: { values: readThumbs(raw.thumbs.values), grads: readThumbs(raw.thumbs.grads) },
    notOnRecord: raw.notOnRecord,
    errors: new Map(raw.errors.at.map((tensor, i) => [tensor, decoded(raw.errors.value[i])])),
    levels: new Map(),
  };
  for (const [name, level] of Object.entries(raw.levels)) {
    data.levels.set(name, readLevel(name, level, data, texts));
  }
  return data;
}

/** What JSON cannot hold comes as text, and what was not measured as null. */
function decoded(x) {
  return x === null ? null : Number(x);
}

function readFrames(raw, texts) {
  const frames = {
    id: raw.id.map((text) => texts[text]),
    parent: raw.parent,
    time: [],
    last: [],
    pattern: [],
  };
  const steps = new Set();
  raw.id.forEach((_, i) => {
    const parent = raw.parent[i];
    const around = parent < 0 ? '' : frames.pattern[parent];
    const own = frames.id[i].slice(parent < 0 ? 0 : frames.id[parent].length + 1);
    const inside = parent >= 0 && frames.time[parent] !== null;
    // Only the outermost timestep counts: a sequence within a timestep is a part of it.
    const outermost = raw.step[i] !== null && !inside;
    frames.time.push(inside ? frames.time[parent] : raw.step[i]);
    frames.last.push(inside ? frames.last[parent] : (raw.last[i] ?? raw.step[i]));
    frames.pattern.push(`${around}/${outermost ? '*' : own}`);
    if (outermost) countSteps(steps, raw.step[i], frames.last[i]);
  });
  return Object.assign(frames, readSteps([...steps].sort((a, b) => a - b)));
}

/** The timesteps of a frame, which may stand for many. */
function countSteps(steps, first, last) {
  steps.add(first).add(last);
  for (let t = first; t < last && last - first < MOST_STEPS_OF_A_BLOCK; t += 1) steps.add(t);
}

/** The timesteps there are, in order. They may begin anywhere, and leave some out. */
function readSteps(times) {
  const place = new Map(times.map((t, i) => [t, i]));
  return {
    times,
    steps: times.length,
    from: times[0] ?? 0,
    to: times.at(-1) ?? 0,
    index: (t) => place.get(t) ?? -1,
    /** The timestep that is so many on from another one, or the last of those that are there. */
    move(t, by) {
      const i = (place.get(t) ?? times.findIndex((other) => other >= t)) + by;
      return times[Math.max(0, Math.min(times.length - 1, i))];
    },
  };
}

function readTensors({ tensors: raw, sorts: rawSorts, sets }, frames, texts) {
  const sorts = rawSorts.map(([kind, name, op, shape, dtype, role]) => ({
    kind: texts[kind],
    name: texts[name],
    op: texts[op],
    shape: texts[shape],
    dtype: texts[dtype],
    role: texts[role],
  }));
  const sort = (i) => sorts[raw.sort[i]];
  return {
    count: raw.sort.length,
    sort,
    notes: (i) => sets[raw.notes[i]].map((note) => texts[note]),
    frame: raw.frame,
    time: (i) => (raw.frame[i] < 0 ? null : frames.time[raw.frame[i]]),
    id(i) {
      if (i in raw.ids) return texts[raw.ids[i]];
      return raw.frame[i] < 0 ? sort(i).role : `${frames.id[raw.frame[i]]}.${sort(i).role}`;
    },
    name: (i) => sort(i).name || sort(i).op || sort(i).role,
  };
}

/** Tensors of one role in the timesteps of one sequence are a series; any other tensor is one alone. */
function readSeries(tensors, frames) {
  const found = new Map();
  const of = new Int32Array(tensors.count);
  const all = [];
  for (let i = 0; i < tensors.count; i += 1) {
    const frame = tensors.frame[i];
    const key = `${frame < 0 ? '' : frames.pattern[frame]}|${tensors.sort(i).role}`;
    let one = found.get(key);
    if (!one) {
      const timed = tensors.time(i) !== null;
      one = {
        number: all.length,
        timed,
        tensors: [],
        at: timed ? new Int32Array(frames.steps).fill(-1) : null,
      };
      found.set(key, one);
      all.push(one);
    }
    of[i] = one.number;
    one.tensors.push(i);
    if (one.timed) one.at[frames.index(tensors.time(i))] = i;
  }
  return {
    all,
    of,
    /** The tensor of a series at a timestep; -1 where it has none. */
    tensor(number, t) {
      const one = all[number];
      return one.timed ? (one.at[frames.index(t)] ?? -1) : one.tensors[0];
    },
  };
}

function readNumbers(raw, count, states) {
  const place = new Int32Array(count).fill(-1);
  raw.at.forEach((tensor, i) => {
    place[tensor] = i;
  });
  function get(tensor) {
    const i = tensor < 0 ? -1 : place[tensor];
    if (i < 0) return null;
    return {
      size: raw.size[i],
      nan: raw.nan[i] ?? 0,
      inf: raw.inf[i] ?? 0,
      least: raw.least[i],
      greatest: raw.greatest[i],
      mean: raw.mean[i],
      std: raw.std[i],
      norm: raw.norm[i],
    };
  }
  /** The norm; NaN or infinite as soon as one number is; null where nothing is known. Of states the largest. */
  function norm(tensor) {
    const norms = states.get(tensor)?.map((state) => norm(state.tensor)).filter((x) => x !== null);
    if (norms) return norms.length ? Math.max(...norms) : null;
    const i = tensor < 0 ? -1 : place[tensor];
    if (i < 0) return null;
    if (raw.nan[i]) return NaN;
    return raw.inf[i] ? Infinity : raw.norm[i];
  }
  return { any: raw.at.length > 0, get, norm };
}

function readThumbs(raw) {
  const bytes = Uint8Array.from(atob(raw.bytes), (letter) => letter.charCodeAt(0));
  const starts = new Map();
  let start = 0;
  raw.at.forEach((tensor, i) => {
    starts.set(tensor, [start, i]);
    start += raw.cells[i] + raw.bins;
  });
  return (tensor) => {
    const found = starts.get(tensor);
    if (!found) return null;
    const [from, i] = found;
    const end = from + raw.cells[i];
    return {
      cells: bytes.subarray(from, end),
      columns: raw.columns[i],
      counts: bytes.subarray(end, end + raw.bins),
    };
  };
}

function readLevel(name, raw, data, texts) {
  const { tensors, series } = data;
  const { tensor, x, y, size } = raw.boxes;
  const count = tensor.length;
  const boxes = {
    count,
    tensor,
    x,
    y,
    width: size.map((i) => raw.sizes[i][0]),
    height: size.map((i) => raw.sizes[i][1]),
    lines: raw.boxes.lines.map((i) => raw.lines[i].map(([style, text]) => [style, texts[text]])),
  };
  const outlines = raw.outlines.frame.map((frame, i) => ({
    frame,
    time: data.frames.time[frame],
    last: data.frames.last[frame],
    title: texts[raw.outlines.title[i]],
    x: raw.outlines.x[i],
    y: raw.outlines.y[i],
    width: raw.outlines.width[i],
    height: raw.outlines.height[i],
  }));
  const wires = readWires(raw.wires, raw.courses, texts);
  const boxOfTensor = new Map(tensor.map((of, i) => [of, i]));
  const boxOfSeries = new Map(tensor.map((of, i) => [series.of[of], i]));
  const rolled = name === 'rolled';
  const worst = raw.worst?.map((found) => found && { error: decoded(found[0]), t: found[1] });
  const level = {
    name,
    rolled,
    width: raw.width,
    height: raw.height,
    boxes,
    outlines,
    wires,
    columns: raw.columns.map(([t, last, from, to]) => ({ t, last, from, to })),
    kinds: new Set(tensor.map((i) => tensors.sort(i).kind)),
    wireKinds: new Set(raw.courses.map(([kind]) => texts[kind])),
    columnsOf: columnsOf(outlines, data.frames),
    columnOf: columnOf(outlines, data),
    /** The box that shows a series at a timestep, or undefined. */
    find(number, t) {
      if (number === null) return undefined;
      return rolled ? boxOfSeries.get(number) : boxOfTensor.get(series.tensor(number, t));
    },
    /** The box that shows a tensor; in the rolled picture it does so for every timestep. */
    boxOf: (of) => (rolled ? boxOfSeries.get(series.of[of]) : boxOfTensor.get(of)),
    /** The box to mark as the first to differ. */
    first: raw.first ?? undefined,
    /** In the rolled picture: the worst error that a box stands for, and at which timestep; null for none. */
    worst: (box) => worst?.[box] ?? null,
    /** The tensor that a box shows: in the rolled picture that of the timestep which is looked at. */
    tensorAt(box, t) {
      const own = tensor[box];
      if (!rolled || !series.all[series.of[own]].timed) return own;
      const there = series.tensor(series.of[own], t);
      return there < 0 ? own : there;
    },
    frame: (box) => tensors.frame[tensor[box]],
    time: (box) => tensors.time(tensor[box]),
    last: (box) => (tensors.frame[tensor[box]] < 0 ? null : data.frames.last[tensors.frame[tensor[box]]]),
  };
  indexLevel(level, series);
  level.timeOfTick = timesOfTicks(level, data.frames);
  return level;
}

/** A function that gives the columns of a sequence by the number of the frame around it, -1 for none. */
function columnsOf(outlines, frames) {
  const found = new Map();
  for (const { frame, time, last, x, width } of outlines) {
    const parent = frames.parent[frame];
    if (time === null || (parent >= 0 && frames.time[parent] !== null)) continue;
    if (!found.has(parent)) found.set(parent, []);
    // The timesteps that a block stands for share its width.
    const each = width / (last - time + 1);
    for (let t = time; t <= last; t += 1)
      found.get(parent).push({ t, x: x + (t - time) * each, width: each });
  }
  return (parent) => found.get(parent) ?? [];
}

/** A function that gives the column, an outline, that the box of a tensor stands in; undefined for none. */
function columnOf(outlines, { frames, tensors }) {
  const columns = new Map(outlines.map((outline) => [outline.frame, outline]));
  return (of) => {
    let frame = tensors.frame[of];
    while (frame >= 0 && frames.parent[frame] >= 0 && frames.time[frames.parent[frame]] !== null)
      frame = frames.parent[frame];
    return frame >= 0 && frames.time[frame] !== null ? columns.get(frame) : undefined;
  };
}

function readWires(raw, courses, texts) {
  const count = raw.course.length;
  const points = new Array(count);
  const sorts = courses.map(([kind, arrow, hue, label, ...steps]) => ({
    kind: texts[kind],
    arrow: Boolean(arrow),
    hue,
    label: texts[label],
    steps,
  }));
  for (let i = 0; i < count; i += 1) {
    const { steps } = sorts[raw.course[i]];
    const line = [raw.x[i], raw.y[i]];
    // From each corner to the next, as most timesteps have the same ones.
    for (let k = 0; k < steps.length; k += 2) line.push(line[k] + steps[k], line[k + 1] + steps[k + 1]);
    points[i] = line;
  }
  return {
    count,
    points,
    sort: (i) => sorts[raw.course[i]],
    tail: raw.tail,
    head: raw.head,
    flow: raw.flow.map(decoded),
    notOnRecord: new Set(raw.notOnRecord),
  };
}
