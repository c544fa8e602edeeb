// One row a study, one cell a timestep, under the columns they are about; and the scrubber with all of time.

// A line for the title, and the cells beneath it.
const ROW = 28;
const TITLE_HEIGHT = 13;
const LEAST_NUMBER_WIDTH = 46;
// How far from its ends the middle of a range's thumb stops.
const THUMB = 8;

function makeStrips(page) {
  const { data, state } = page;
  const [holder, rows, canvas, titles] = [$('strips'), $('strip-rows'), $('strip-canvas'), $('strip-titles')];
  holder.hidden = !data.strips.length;
  rows.style.height = `${data.strips.length * ROW}px`;
  const readings = data.strips.map((strip) => {
    const reading = make('span', { class: 'reading' });
    titles.append(make('div', { class: 'title' }, bdi(shortened(strip.title)), ' ', reading));
    return reading;
  });

  function paint() {
    const { width } = page.camera();
    const pen = penOf(canvas, width, data.strips.length * ROW);
    if (!pen) return;
    data.strips.forEach((strip, i) => {
      paintCells(
        pen,
        cellsOf(page, strip, width),
        page.scales[strip.kind],
        i * ROW + TITLE_HEIGHT,
        ROW - TITLE_HEIGHT,
        page.palette,
        state.t,
      );
    });
  }

  const clicked = (event) => {
    const bounds = canvas.getBoundingClientRect();
    const strip = data.strips[Math.floor((event.clientY - bounds.top) / ROW)];
    const x = event.clientX - bounds.left;
    const cell = strip && cellsOf(page, strip, bounds.width).find(({ from, to }) => from <= x && x < to);
    if (cell) page.lookAt(cell.t);
  };
  onDrag(canvas, clicked);

  page.add((changed) => {
    if (holder.hidden) return;
    if (['camera', 't', 'level', 'size', 'theme', 'start', 'jump'].some((what) => changed.has(what))) paint();
    if (changed.has('t') || changed.has('start')) {
      data.strips.forEach((strip, i) => {
        readings[i].textContent = readingOf(strip, data.frames.index(state.t));
      });
    }
  });
}

/** The number of a strip at its timestep number i, in words. */
function readingOf({ kind, values }, i) {
  const value = values[i] ?? null;
  return kind === 'share' && value !== null ? share(value) : say(value);
}

/** Where each number of a strip stands: under its timestep, or spread evenly where no columns are. */
function cellsOf(page, strip, width) {
  const [level, camera] = [page.level(), page.camera()];
  const { frames } = page.data;
  const columns = level.rolled ? [] : level.columnsOf(strip.frame);
  if (!columns.length) {
    const wide = width / strip.values.length;
    return strip.values.map((value, i) => ({
      t: frames.times[i],
      value,
      from: i * wide,
      to: (i + 1) * wide,
    }));
  }
  const cells = [];
  columns.forEach(({ t, x, width: wide }, i) => {
    const next = columns[i + 1];
    // As far as the next column: from afar the gaps would be a grey veil.
    const end = next && next.x > x && next.x - x < 1.6 * wide ? next.x : x + wide;
    const [left, right] = [camera.toX(x), camera.toX(end)];
    if (right > -5 && left < width + 5)
      cells.push({ t, value: strip.values[frames.index(t)] ?? null, from: left, to: right });
  });
  return cells;
}

function paintCells(pen, cells, scale, top, tall, palette, now) {
  let before = { from: -1, rank: -Infinity };
  for (const { t, value, ...cell } of cells) {
    // On whole points, for half of one is half as strong in colour.
    const from = Math.round(cell.from);
    const wide = Math.max(1, Math.round(cell.to) - from);
    const code = scale.code(value);
    const rank = urgency(code);
    const gap = wide > 6 ? 1 : 0;
    // Of several timesteps on one point of the screen the most urgent is to be seen.
    if (from > before.from || rank > before.rank) {
      paintCell(pen, scale, code, from, top + 1, wide - gap, tall - 2, palette);
      before = { from, rank };
    }
    if (now !== null && wide >= LEAST_NUMBER_WIDTH) {
      pen.fillStyle = code < STEPS ? scale.ink(code) : palette.ink;
      pen.font = `11px ${FONT}`;
      pen.textAlign = 'right';
      pen.fillText(
        value === null ? '–' : scale.linear ? share(value) : say(value),
        from + wide - 5,
        top + tall / 2 + 4,
      );
    }
    if (t === now) {
      pen.strokeStyle = palette.ink;
      pen.lineWidth = 2;
      pen.strokeRect(from, top + 1, Math.max(2, wide - gap), tall - 2);
    }
  }
}

/** A number as an area: what has no place on the scale differs by more than its colour. */
function paintCell(pen, scale, code, x, y, wide, tall, palette) {
  if (code === UNKNOWN) return;
  pen.fillStyle = scale.fill(code) || scale.color(code);
  // What is 0, or right, is a small cell and no more.
  if (code === ZERO || code === AGREES)
    pen.fillRect(x + 0.25 * wide, y + 0.3 * tall, Math.max(1, 0.5 * wide), 0.4 * tall);
  else pen.fillRect(x, y, wide, tall);
  if (wide < 6) return;
  const surface = canvasSurface(pen);
  if (code === NAN) surface.lines(hatching(x, y, wide, tall, 6), { stroke: scale.color(code) });
  if (code === INFINITE) surface.rect(x + 1, y + 1, wide - 2, tall - 2, { stroke: palette.ink, width: 2 });
}

function share(x) {
  return `${Number((100 * x).toPrecision(3))}%`;
}

/** Why there is nothing to follow through time; empty where there is. */
function whyNoTime({ steps }) {
  return ['There are no timesteps', 'There is only one timestep'][steps] ?? '';
}

// --- the scrubber ----------------------------------------------------------------------------------------
function makeTimeline(page) {
  const { data, state } = page;
  const { from, to, steps, times, index } = data.frames;
  const [range, canvas, shown] = [$('time'), $('overview'), $('now')];
  Object.assign(range, { min: 0, max: Math.max(0, steps - 1), value: index(state.t) });
  const alone = whyNoTime(data.frames);
  for (const control of [range, $('previous'), $('next')]) disable(control, alone);
  $('timeline').classList.toggle('still', Boolean(alone));

  const strip = data.strips[0];

  function paint() {
    const { width, height } = canvas.parentElement.getBoundingClientRect();
    const pen = penOf(canvas, Math.floor(width), Math.floor(height));
    if (!pen || steps < 2) return;
    const toX = (i) => THUMB + (i / (steps - 1)) * (width - 2 * THUMB);
    const half = (width - 2 * THUMB) / (steps - 1) / 2;
    const cells = Array.from({ length: steps }, (_, i) => ({
      t: times[i],
      value: strip?.values[i] ?? null,
      from: toX(i) - half,
      to: toX(i) + half,
    }));
    if (strip) paintCells(pen, cells, page.scales[strip.kind], 2, 16, page.palette, null);
    paintWindow(pen, toX, half, width);
  }

  /** A bracket around the timesteps that are in sight. */
  function paintWindow(pen, toX, half, width) {
    const [level, camera] = [page.level(), page.camera()];
    if (level.rolled || !level.columns.length) return;
    const seen = level.columns.filter((c) => camera.toX(c.to) > 0 && camera.toX(c.from) < camera.width);
    if (!seen.length || seen.length === level.columns.length) return;
    pen.strokeStyle = page.palette.ink;
    pen.lineWidth = 1.5;
    const left = Math.max(1, toX(index(seen[0].t)) - half);
    pen.strokeRect(left, 1.5, Math.min(width - 1, toX(index(seen.at(-1).last)) + half) - left, 17);
  }

  range.addEventListener('input', () => page.goTo(times[Number(range.value)]));
  $('previous').addEventListener('click', () => page.move(-1));
  $('next').addEventListener('click', () => page.move(1));

  page.add((changed) => {
    if (['camera', 't', 'level', 'size', 'theme', 'start', 'jump'].some((what) => changed.has(what))) paint();
    if (changed.has('t') || changed.has('start')) {
      range.value = index(state.t);
      range.setAttribute(
        'aria-valuetext',
        steps ? `timestep ${state.t}, from ${from} to ${to}` : 'no timesteps',
      );
      shown.textContent = steps ? `t = ${state.t} / ${to}` : 'no timesteps';
    }
  });
}
