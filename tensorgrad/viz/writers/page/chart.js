// One tensor followed through all timesteps: the norms of its value and of its gradient, on one log scale.

const CHART = { width: 320, height: 150, left: 46, right: 8, top: 18, bottom: 34 };
const LINES = [
  { what: 'value', dash: '' },
  { what: 'gradient', dash: '' },
  { what: 'error', dash: '4 2' },
];

function makeChart(page) {
  const { data, state } = page;
  const panel = $('chart');
  const body = panel.querySelector('.body');
  let drawn = null;
  let mark = null;
  let words = null;

  function followed() {
    const number = state.pin ?? (page.inspected() < 0 ? null : data.series.of[page.inspected()]);
    return number !== null && data.series.all[number].timed ? number : null;
  }

  function valuesOf(number) {
    const get = {
      value: data.values.norm,
      gradient: data.grads.norm,
      error: (tensor) => data.errors.get(tensor) ?? null,
    };
    const there = { value: data.values.any, gradient: data.grads.any, error: data.errors.size > 0 };
    const at = [...data.series.all[number].at];
    return LINES.filter(({ what }) => there[what]).map((line) => ({
      ...line,
      values: at.map((tensor) => (tensor < 0 ? null : get[line.what](tensor))),
    }));
  }

  function draw(number) {
    drawn = number;
    const why = excuse(number);
    if (why) {
      body.replaceChildren(make('p', { class: 'quiet' }, why));
      mark = null;
      return;
    }
    const lines = valuesOf(number);
    const several = data.states.has(data.series.all[number].tensors[0]);
    const most = (what) => (several && what !== 'error' ? 'largest ' : '');
    const title = bdi(data.tensors.name(data.series.all[number].tensors[0]));
    const keys = lines.map(({ what }) =>
      make('span', { class: `key ${what}` }, `${most(what)}‖${what}‖`.replace('‖error‖', 'error')),
    );
    words = make('div', { class: 'words' });
    const picture = drawLines(lines, data.frames);
    mark = picture.mark;
    picture.root.setAttribute(
      'aria-label',
      summary(lines, data.frames, data.tensors.name(data.series.all[number].tensors[0])),
    );
    onDrag(picture.root, (event) => page.goTo(timeOn(picture.root, event, data.frames)));
    body.replaceChildren(
      make('div', { class: 'keys' }, make('strong', {}, title), ...keys),
      picture.root,
      words,
    );
    move();
  }

  function excuse(number) {
    if (data.frames.steps < 2) return `${whyNoTime(data.frames)}.`;
    if (!data.values.any && !data.grads.any && !data.errors.size)
      return 'Drawn without numbers: draw(..., values=True, backward=True).';
    return number === null ? 'Pin a box of a timestep to follow it through all of them.' : '';
  }

  function move() {
    if (!mark) return;
    const x = timeToX(data.frames.index(state.t), data.frames);
    mark.setAttribute('x1', x);
    mark.setAttribute('x2', x);
    const tensor = data.series.tensor(drawn, state.t);
    const parts = [`t=${state.t}`];
    if (tensor < 0) parts.push('not there');
    else {
      if (data.values.any) parts.push(`‖value‖ ${valueInWords(data, tensor)}`);
      if (data.grads.any) parts.push(`‖gradient‖ ${gradientInWords(data, tensor)}`);
      if (data.errors.has(tensor)) parts.push(`error ${say(data.errors.get(tensor))}`);
    }
    words.textContent = parts.join(' · ');
  }

  page.add((changed) => {
    const number = followed();
    panel.dataset.series = number === null ? '' : data.tensors.id(data.series.all[number].tensors[0]);
    panel.dataset.pinned = String(state.pin !== null);
    if (number !== drawn || changed.has('start')) draw(number);
    else if (changed.has('t')) move();
  });
}

function timeToX(i, frames) {
  const { left, right, width } = CHART;
  return left + (i / Math.max(1, frames.steps - 1)) * (width - left - right);
}

function timeOn(root, event, frames) {
  const { left, width } = root.getBoundingClientRect();
  const x = ((event.clientX - left) / width) * CHART.width;
  const part = (x - CHART.left) / (CHART.width - CHART.left - CHART.right);
  return frames.move(frames.from, Math.round(part * (frames.steps - 1)));
}

/** Powers of ten that hold all that is above 0. */
function decades(lines) {
  let [low, high] = [Infinity, -Infinity];
  for (const { values } of lines) {
    for (const x of values) {
      if (x > 0 && x < Infinity) [low, high] = [Math.min(low, x), Math.max(high, x)];
    }
  }
  if (low > high) return [-1, 1];
  const ends = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  return ends[0] === ends[1] ? [ends[0] - 1, ends[1] + 1] : ends;
}

function drawLines(lines, frames) {
  const { width, height, left, right, top, bottom } = CHART;
  const [low, high] = decades(lines);
  const toY = (x) => top + ((high - Math.log10(x)) / (high - low)) * (height - top - bottom);
  // Below the least there is a gutter for what is 0 and for what is missing, above for what is no number.
  const gutter = { zero: height - bottom + 9, missing: height - bottom + 16, wrong: top - 9 };
  const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', class: 'plot' });
  const every = Math.max(1, Math.ceil((high - low) / 4));
  for (let power = low; power <= high; power += every) {
    const y = toY(10 ** power);
    root.append(
      svg('line', { x1: left, x2: width - right, y1: y, y2: y, class: 'grid' }),
      svg(
        'text',
        { x: left - 5, y: y + 3.5, class: 'tick right' },
        power < -4 || power > 4 ? `1e${power}` : String(Number((10 ** power).toPrecision(1))),
      ),
    );
  }
  const last = frames.steps - 1;
  for (const i of new Set([0, Math.round(last / 2), last])) {
    root.append(
      svg(
        'text',
        {
          x: timeToX(i, frames),
          y: height - 4,
          class: `tick ${i === last ? 'right' : i ? 'centre' : ''}`,
        },
        `t=${frames.times[i]}`,
      ),
    );
  }
  for (const { what, dash, values } of lines)
    root.append(...drawLine(what, dash, values, frames, toY, gutter));
  const mark = svg('line', { x1: left, x2: left, y1: top - 4, y2: height - bottom, class: 'mark' });
  root.append(mark);
  return { root, mark };
}

function drawLine(what, dash, values, frames, toY, gutter) {
  const course = [];
  const odd = { zero: [], missing: [], wrong: [] };
  let going = false;
  const alone = [];
  values.forEach((x, i) => {
    const at = timeToX(i, frames).toFixed(1);
    if (x > 0 && x < Infinity) {
      course.push(`${going ? 'L' : 'M'}${at} ${toY(x).toFixed(1)}`);
      const next = values[i + 1];
      if (!going && !(next > 0 && next < Infinity)) alone.push(`M${at} ${toY(x).toFixed(1)}h0`);
      going = true;
      return;
    }
    going = false;
    odd[x === null ? 'missing' : x === 0 ? 'zero' : 'wrong'].push(at);
  });
  const found = [
    svg('path', { d: course.join(''), class: `line ${what}`, ...(dash && { 'stroke-dasharray': dash }) }),
  ];
  if (alone.length) found.push(svg('path', { d: alone.join(''), class: `line alone ${what}` }));
  const note = (kind, text, d) => {
    if (!odd[kind].length) return;
    const y = gutter[kind];
    found.push(
      svg('path', { d: odd[kind].map((x) => `M${x} ${y}${d}`).join(''), class: `odd ${kind} ${what}` }),
    );
    found.push(svg('text', { x: CHART.left - 5, y: y + 3, class: 'tick right' }, text));
  };
  note('zero', '0', 'm-2 0h4');
  note('missing', 'none', 'v.01');
  note('wrong', 'NaN, ∞', 'm-3 -3l6 6m0 -6l-6 6');
  return found;
}

function summary(lines, frames, name) {
  const parts = lines.map(({ what, values }) => {
    const known = values.filter((x) => x !== null);
    if (!known.length) return `${what}: not known anywhere`;
    const wrong = known.filter((x) => !Number.isFinite(x)).length;
    const zero = known.filter((x) => x === 0).length;
    const text = `norm of ${what}: ${say(known[0])} at the first timestep, ${say(known.at(-1))} at the last`;
    return text + (zero ? `, 0 at ${zero}` : '') + (wrong ? `, not finite at ${wrong}` : '');
  });
  return `${shortened(name)} through ${counted(frames.steps, 'timestep')}. ${parts.join('; ')}`;
}
