// What stands where, so that only what is in sight is drawn; what joins what; and who comes after whom.

const LEAST_BUCKET = 120;
// What reaches over more buckets than this is looked at each time.
const LONG = 4;

function indexLevel(level, series) {
  const { boxes, wires, outlines, columns } = level;
  level.pitch = columns.length ? (columns.at(-1).to - columns[0].from) / columns.length : Infinity;
  const size = Math.max(LEAST_BUCKET, Number.isFinite(level.pitch) ? level.pitch : 0);
  level.boxesWithin = makeIndex(boxes.count, (i) => [boxes.x[i], boxes.x[i] + boxes.width[i]], size);
  level.outlinesWithin = makeIndex(
    outlines.length,
    (i) => [outlines[i].x, outlines[i].x + outlines[i].width],
    size,
  );
  level.wiresWithin = makeIndex(wires.count, (i) => extent(wires.points[i]), size);
  findBands(level, series);
  level.typical = median(boxes.width);
  join(level);
  order(level);
  level.here = findByTime(level);
  alongTime(level);
}

/** Where a timestep stands along x, and which one stands at a place; those of a block share its width. */
function alongTime(level) {
  const { columns } = level;
  level.column = (t) => {
    const found = columns.find((column) => column.t <= t && t <= column.last);
    if (!found) return undefined;
    const each = (found.to - found.from) / (found.last - found.t + 1);
    return { from: found.from + (t - found.t) * each, to: found.from + (t - found.t + 1) * each };
  };
  level.timeAt = (x) => {
    const found = columns.find(({ from, to }) => from <= x && x < to);
    if (!found) return null;
    return found.t + Math.floor(((x - found.from) / (found.to - found.from)) * (found.last - found.t + 1));
  };
}

function extent(line) {
  let low = Infinity;
  let high = -Infinity;
  for (let k = 0; k < line.length; k += 2) {
    low = Math.min(low, line[k]);
    high = Math.max(high, line[k]);
  }
  return [low, high];
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

/** A function that gives the numbers of all things between two places along x, in ascending order. */
function makeIndex(count, extentOf, size) {
  const buckets = new Map();
  const long = [];
  const met = new Uint32Array(count);
  let query = 0;
  for (let i = 0; i < count; i += 1) {
    const [low, high] = extentOf(i);
    const [from, to] = [Math.floor(low / size), Math.floor(high / size)];
    if (to - from > LONG) long.push(i);
    else {
      for (let b = from; b <= to; b += 1) {
        if (!buckets.has(b)) buckets.set(b, []);
        buckets.get(b).push(i);
      }
    }
  }
  return (low, high) => {
    query += 1;
    const found = [];
    const take = (i) => {
      if (met[i] !== query) {
        met[i] = query;
        found.push(i);
      }
    };
    long.forEach(take);
    for (let b = Math.floor(low / size); b <= Math.floor(high / size); b += 1) buckets.get(b)?.forEach(take);
    return found.sort((a, b) => a - b);
  };
}

/**
 * What is drawn from afar: a band along time for each series, and a short one for whatever stands alone. Where
 * boxes stand side by side in a timestep their bands lie one below the other in the same height.
 */
function findBands(level, series) {
  const { boxes } = level;
  const found = new Map();
  for (let i = 0; i < boxes.count; i += 1) {
    const number = series.of[boxes.tensor[i]];
    // In some timesteps a series may stand at another height.
    const key = series.all[number].timed ? `${number} ${boxes.y[i]}` : `box ${i}`;
    if (!found.has(key)) found.set(key, { boxes: [] });
    found.get(key).boxes.push(i);
  }
  const bands = [...found.values()];
  for (const band of bands) {
    band.boxes.sort((a, b) => boxes.x[a] - boxes.x[b]);
    const first = band.boxes[0];
    // From each column to the next one, for gaps would be a grey veil.
    const columns = band.boxes.map(
      (box) => level.columnOf(boxes.tensor[box]) ?? { x: boxes.x[box], width: boxes.width[box] },
    );
    const close = (k) => columns[k + 1] && columns[k + 1].x - columns[k].x < 1.6 * columns[k].width;
    band.starts = columns.map(({ x }) => x);
    band.ends = columns.map(({ x, width }, k) => (close(k) ? columns[k + 1].x : x + width));
    Object.assign(band, { from: band.starts[0], to: band.ends.at(-1) });
    Object.assign(band, { left: boxes.x[first], top: boxes.y[first], height: boxes.height[first] });
  }
  for (const group of sharingHeight(bands)) {
    const top = Math.min(...group.map((band) => band.top));
    const height = Math.max(...group.map((band) => band.top + band.height)) - top;
    group.forEach((band, k) =>
      Object.assign(band, { top: top + (k * height) / group.length, height: height / group.length }),
    );
  }
  level.bands = bands;
  level.bandOf = new Array(boxes.count);
  for (const band of bands) {
    band.boxes.forEach((box, place) => {
      level.bandOf[box] = { band, place };
    });
  }
}

/** Bands of many timesteps that would lie over each other, in groups from left to right. */
function sharingHeight(bands) {
  const groups = [];
  const long = bands.filter((band) => band.boxes.length > 1).sort((a, b) => a.top - b.top || a.from - b.from);
  for (const band of long) {
    const crosses = (other) =>
      band.top < other.top + other.height && band.from < other.to && other.from < band.to;
    const group = groups.find((some) => some.some(crosses));
    if (group) group.push(band);
    else groups.push([band]);
  }
  for (const group of groups) group.sort((a, b) => a.left - b.left);
  return groups;
}

/** A function that gives the boxes to go through at a timestep: its own from top to bottom, then all others'. */
function findByTime(level) {
  const { boxes } = level;
  const timed = new Map();
  const spans = [];
  const shared = [];
  const put = (t, box) => {
    if (!timed.has(t)) timed.set(t, []);
    timed.get(t).push(box);
  };
  for (let i = 0; i < boxes.count; i += 1) {
    const [t, last] = [level.time(i), level.last(i)];
    if (t === null || level.rolled) shared.push(i);
    else if (last > t) spans.push([t, last, i]);
    else put(t, i);
  }
  const downwards = (a, b) => boxes.y[a] - boxes.y[b] || boxes.x[a] - boxes.x[b];
  shared.sort(downwards);
  for (const some of timed.values()) some.sort(downwards);
  return (t) => {
    const around = spans.filter(([from, to]) => from <= t && t <= to).map(([, , box]) => box);
    return [...(timed.get(t) ?? []), ...around, ...shared];
  };
}

/** The wires that lead into each box, and those that lead out of it. */
function join(level) {
  const { boxes, wires } = level;
  level.wiresInto = Array.from({ length: boxes.count }, () => []);
  level.wiresFrom = Array.from({ length: boxes.count }, () => []);
  for (let i = 0; i < wires.count; i += 1) {
    if (wires.tail[i] >= 0 && wires.head[i] >= 0) {
      level.wiresInto[wires.head[i]].push(i);
      level.wiresFrom[wires.tail[i]].push(i);
    }
  }
  level.operands = (box) => level.wiresInto[box].map((i) => wires.tail[i]);
  level.users = (box) => level.wiresFrom[box].map((i) => wires.head[i]);
}

/**
 * When a forward pass computes each box, in ticks: the longest way to it from a leaf. A backward pass goes
 * through the same ticks the other way.
 */
function order(level) {
  const { boxes, users } = level;
  const when = new Float64Array(boxes.count);
  const missing = level.wiresInto.map((wires) => wires.length);
  const ready = [];
  missing.forEach((n, i) => {
    if (!n) ready.push(i);
  });
  const done = new Uint8Array(boxes.count);
  let lowest = 0;
  for (let next = 0; next < boxes.count; next += 1) {
    if (next === ready.length) {
      // Only in the rolled picture do boxes wait for each other: the first of them begins.
      while (done[lowest]) lowest += 1;
      missing[lowest] = 0;
      ready.push(lowest);
    }
    const box = ready[next];
    done[box] = 1;
    for (const user of users(box)) {
      if (done[user]) continue;
      when[user] = Math.max(when[user], when[box] + 1);
      missing[user] -= 1;
      if (missing[user] === 0) ready.push(user);
    }
  }
  level.when = when;
  waitForTheState(level, ready);
  level.ticks = when.reduce((most, tick) => Math.max(most, tick), 0) + 1;
}

/**
 * What a timestep makes of its input alone could be had at the very beginning. It comes when the timestep is at
 * it, just before it is used; and so does every leaf.
 */
function waitForTheState(level, inOrder) {
  const { boxes, operands, users, time, when } = level;
  const apart = (a, b) => time(a) !== null && time(b) !== null && time(a) !== time(b);
  // Whether anything of another timestep has a part in a box.
  const fed = new Uint8Array(boxes.count);
  for (const box of inOrder)
    fed[box] = operands(box).some((operand) => fed[operand] || apart(operand, box)) ? 1 : 0;
  const handedTo = new Set(inOrder.filter((box) => fed[box]).map(time));
  for (let k = inOrder.length - 1; k >= 0; k -= 1) {
    const box = inOrder[k];
    const usedHere = handedTo.has(time(box)) && users(box).some((user) => time(user) === time(box));
    if (fed[box] || !users(box).length || (operands(box).length && !usedHere)) continue;
    const used = users(box).reduce((least, user) => Math.min(least, when[user]), Infinity);
    when[box] = Math.max(when[box], used - 1);
  }
}

/** The timestep that each tick of a pass is at; null before the first and after the last. */
function timesOfTicks(level, frames) {
  const { boxes, outlines, ticks, when } = level;
  const found = new Array(ticks).fill(null);
  const sequence = new Array(ticks).fill(Infinity);
  const rank = new Map();
  outlines.forEach(({ frame }) => {
    const pattern = frames.pattern[frame];
    if (!rank.has(pattern)) rank.set(pattern, rank.size);
  });
  for (let i = 0; i < boxes.count; i += 1) {
    const t = level.time(i);
    if (t === null || !level.wiresInto[i].length) continue;
    // Of several sequences that are computed at once the first is followed.
    const mine = rank.get(frames.pattern[level.frame(i)]) ?? rank.size;
    if (mine < sequence[when[i]] || (mine === sequence[when[i]] && t > found[when[i]])) {
      sequence[when[i]] = mine;
      found[when[i]] = t;
    }
  }
  return found;
}
