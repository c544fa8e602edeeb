// The panel about one tensor, and the small card beside the pointer.

const HEAT_WIDTH = 148;
const HEAT_HEIGHT = 96;
const BARS_HEIGHT = 44;
const MOST_LINKS = 6;
// From what is most negative over nothing to what is most positive.
const DIVERGING = ['#1b4f8a', '#5b93c7', '#b8d3e8', '#f4f4f2', '#f3c6a5', '#dd7f43', '#9c3d0c'];
const NO_NUMBER = { 253: '#c2187d', 254: '#000000', 255: '#000000' };
const CELL_STEPS = 252;

function makeInspector(page) {
  const { data, state } = page;
  const panel = $('inspector');
  const body = panel.querySelector('.body');

  function show() {
    const tensor = page.inspected();
    panel.dataset.tensor = tensor < 0 ? '' : data.tensors.id(tensor);
    if (tensor < 0) {
      body.replaceChildren(
        make('p', { class: 'quiet' }, 'Point at a box, or move to one with the arrow keys.'),
      );
      return;
    }
    const states = data.states.get(tensor)?.flatMap((one) => numbers(one.tensor, one.name));
    body.replaceChildren(head(tensor), facts(tensor), ...(states ?? numbers(tensor)), ...links(tensor));
  }

  function head(tensor) {
    const { kind } = data.tensors.sort(tensor);
    const number = data.series.of[tensor];
    const pinned = state.pin === number;
    return make(
      'div',
      { class: 'head' },
      make('strong', { class: 'name' }, bdi(data.tensors.name(tensor))),
      make('span', { class: `kind ${kind}` }, kind),
      make(
        'button',
        {
          type: 'button',
          id: 'pin',
          'aria-pressed': String(pinned),
          click: () => page.set({ pin: pinned ? null : number }),
        },
        pinned ? 'Unpin' : 'Pin',
      ),
    );
  }

  function facts(tensor) {
    const { op, shape, dtype } = data.tensors.sort(tensor);
    const t = data.tensors.time(tensor);
    const list = make('dl', { class: 'facts' });
    const add = (what, ...is) => list.append(make('div', {}, make('dt', {}, what), make('dd', {}, ...is)));
    if (op) add('made by', bdi(op));
    if (shape) add('shape', `${shape} ${dtype}`);
    if (t !== null) add('timestep', String(t));
    add('id', make('code', {}, data.tensors.id(tensor)));
    if (data.errors.size) add('error', errorInWords(page, tensor));
    if (tensor === data.first)
      list.append(make('div', { class: 'bad' }, 'The first to differ, in the order of a backward.'));
    for (const note of data.tensors.notes(tensor)) list.append(make('div', { class: 'note' }, bdi(note)));
    return list;
  }

  function numbers(tensor, name = '') {
    const [value, grad] = [data.values.get(tensor), data.grads.get(tensor)];
    if (!data.values.any && !data.grads.any) return [];
    const row = (what, of) => {
      const cell = (numbers) => make('td', {}, numbers ? say(of(numbers)) : '–');
      return make('tr', {}, make('th', { scope: 'row' }, what), cell(value), cell(grad));
    };
    const bad = (what) =>
      value?.[what] || grad?.[what] ? [row(what === 'nan' ? 'NaN' : 'infinite', (n) => n[what])] : [];
    const why =
      data.grads.any && !grad
        ? [make('p', { class: 'quiet' }, 'No gradient reaches it: not backpropagated.')]
        : [];
    return [
      make(
        'table',
        { class: 'numbers' },
        ...(name ? [make('caption', {}, bdi(shortened(name)))] : []),
        make(
          'thead',
          {},
          make(
            'tr',
            {},
            make('td'),
            make('th', { scope: 'col' }, 'value'),
            make('th', { scope: 'col' }, 'gradient'),
          ),
        ),
        make(
          'tbody',
          {},
          row('norm', (n) => n.norm),
          row('mean', (n) => n.mean),
          row('std', (n) => n.std),
          row('least', (n) => n.least),
          row('greatest', (n) => n.greatest),
          ...bad('nan'),
          ...bad('inf'),
        ),
      ),
      ...why,
      make(
        'div',
        { class: 'thumbs' },
        ...thumb('value', data.thumbs.values(tensor), value),
        ...thumb('gradient', data.thumbs.grads(tensor), grad),
      ),
    ];
  }

  function links(tensor) {
    const level = page.level();
    const box = level.boxOf(tensor);
    if (box === undefined) return [];
    const list = (what, wires, near, far) => {
      const found = wires.map((i) => wireInTime(data, level, i, state.t, near)).filter(Boolean);
      const tensorOf = ({ level: one, wire }) => one.tensorAt(one.wires[far][wire], state.t);
      const tensors = [...new Set(found.map(tensorOf))];
      if (!tensors.length) return [];
      const shown = tensors
        .slice(0, MOST_LINKS)
        .map((other) =>
          make(
            'button',
            { type: 'button', class: 'link', click: () => page.jump(other) },
            bdi(titleOf(data, other)),
          ),
        );
      if (tensors.length > MOST_LINKS)
        shown.push(make('span', { class: 'quiet' }, `and ${tensors.length - MOST_LINKS} more`));
      return [make('div', { class: 'links' }, make('span', { class: 'quiet' }, what), ...shown)];
    };
    return [
      ...list('made from', level.wiresInto[box], 'head', 'tail'),
      ...list('used by', level.wiresFrom[box], 'tail', 'head'),
    ];
  }

  page.add((changed) => {
    if (['hover', 'focus', 'pin', 't', 'level', 'theme', 'start'].some((what) => changed.has(what))) show();
  });
}

function titleOf(data, tensor) {
  const t = data.tensors.time(tensor);
  return shortened(data.tensors.name(tensor), 40) + (t === null ? '' : ` (t=${t})`);
}

// --- heat map and histogram ------------------------------------------------------------------------------
function thumb(what, found, numbers) {
  if (!found || !numbers || !found.cells.length) return [];
  const { least, greatest } = numbers;
  const range = `from ${say(least)} to ${say(greatest)}`;
  const [heat, bars] = [make('canvas', { 'aria-hidden': 'true' }), make('canvas', { 'aria-hidden': 'true' })];
  paintHeat(heat, found, least, greatest);
  paintBars(bars, found.counts, least, greatest);
  const rows = found.cells.length / found.columns;
  return [
    make(
      'figure',
      {
        role: 'img',
        'aria-label': `Heat map of the ${what}, ${rows} × ${found.columns} cells, and histogram, ${range}`,
      },
      make('figcaption', {}, what),
      heat,
      bars,
      make('div', { class: 'ends' }, make('span', {}, say(least)), make('span', {}, say(greatest))),
    ),
  ];
}

/** Blue below 0 and orange above, each as strong as the number is large. */
function signed(x, most) {
  return blend(DIVERGING, most ? (x / most + 1) / 2 : 0.5);
}

function paintHeat(canvas, { cells, columns }, least, greatest) {
  const rows = cells.length / columns;
  const side = Math.min(HEAT_WIDTH / columns, HEAT_HEIGHT / rows, 22);
  const pen = penOf(canvas, Math.max(1, Math.round(side * columns)), Math.max(3, Math.round(side * rows)));
  const most = Math.max(Math.abs(least), Math.abs(greatest));
  cells.forEach((cell, i) => {
    const [x, y] = [(i % columns) * side, Math.floor(i / columns) * side];
    pen.fillStyle = NO_NUMBER[cell] ?? signed(least + (greatest - least) * (cell / CELL_STEPS), most);
    pen.fillRect(x, y, side + 0.5, side + 0.5);
  });
}

function paintBars(canvas, counts, least, greatest) {
  const pen = penOf(canvas, HEAT_WIDTH, BARS_HEIGHT);
  const most = Math.max(Math.abs(least), Math.abs(greatest));
  const wide = HEAT_WIDTH / counts.length;
  counts.forEach((count, i) => {
    const tall = (count / 255) * (BARS_HEIGHT - 4);
    pen.fillStyle = signed(least + ((greatest - least) * (i + 0.5)) / counts.length, most);
    pen.strokeStyle = '#7a828c';
    pen.fillRect(i * wide + 0.5, BARS_HEIGHT - 1 - tall, wide - 1, tall);
    if (count) pen.strokeRect(i * wide + 0.5, BARS_HEIGHT - 1 - tall, wide - 1, tall);
  });
  pen.fillStyle = '#7a828c';
  pen.fillRect(0, BARS_HEIGHT - 1, HEAT_WIDTH, 1);
}

// --- beside the pointer ----------------------------------------------------------------------------------
function makeHint(page) {
  const { data, state } = page;
  const hint = $('hint');

  function words() {
    const level = page.level();
    if (state.hover !== null) {
      const tensor = level.tensorAt(state.hover, state.t);
      const { op, shape, dtype } = data.tensors.sort(tensor);
      const lines = [make('strong', {}, bdi(shortened(titleOf(data, tensor), 80)))];
      const add = (text) => lines.push(make('div', {}, bdi(shortened(text, 80))));
      if (op) add(op);
      if (shape) add(`${shape} ${dtype}`);
      if (data.values.any) add(`‖value‖ ${valueInWords(data, tensor)}`);
      if (data.grads.any) add(`‖gradient‖ ${gradientInWords(data, tensor)}`);
      if (data.errors.size) add(`error ${errorInWords(page, tensor)}`);
      return lines;
    }
    const found = wireInTime(data, level, state.wire, state.t);
    const { level: one, wire } = found ?? { level, wire: state.wire };
    const title = one.rolled ? (_, tensor) => data.tensors.name(tensor) : titleOf;
    const name = (box) =>
      box < 0 ? [] : [bdi(shortened(title(data, one.tensorAt(box, state.t)), 60))];
    const lines = [make('div', {}, ...name(one.wires.tail[wire]), ' → ', ...name(one.wires.head[wire]))];
    if (!found) lines.push(make('div', {}, `not at t=${state.t}`));
    if (data.grads.any) {
      const flow = flowAt(data, level, state.wire, state.t);
      const known = flow === null ? 'no gradient flows back' : `flows back: norm ${say(flow)}`;
      lines.push(make('div', {}, flow === undefined ? data.notOnRecord : known));
    }
    return lines;
  }

  page.add((changed) => {
    if (!['hover', 'wire', 't', 'camera', 'level'].some((what) => changed.has(what))) return;
    hint.hidden = state.hover === null && state.wire === null;
    if (hint.hidden) return;
    hint.replaceChildren(...words());
    const [px, py] = page.pointer;
    const { width, height } = page.camera();
    const [wide, tall] = [hint.offsetWidth, hint.offsetHeight];
    const x = px + 16 + wide > width ? px - 12 - wide : px + 16;
    const y = py + 16 + tall > height ? py - 12 - tall : py + 16;
    hint.style.transform = `translate(${Math.max(0, x)}px, ${Math.max(0, y)}px)`;
  });
}
