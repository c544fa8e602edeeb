// The findings of a comparison, the timestep as a table, the legend, and what is said to who cannot see.

const MOST_ROWS = 80;
const QUIET_FOR = 350;

// --- findings --------------------------------------------------------------------------------------------
function makeFindings(page) {
  const { data } = page;
  const panel = $('findings');
  panel.hidden = !data.words.length && !data.errors.size;
  const list = make('ol', {});
  data.words.forEach((text) => {
    const tensor = placeIn(data, text);
    const words = make('bdi', {}, shortened(text, 4000));
    const button = () =>
      make(
        'button',
        { type: 'button', class: 'link', click: () => page.jump(tensor) },
        `Show ${titleOf(data, tensor)}`,
      );
    list.append(make('li', {}, words, ' ', ...(tensor === null ? [] : [button()])));
  });
  panel
    .querySelector('.body')
    .append(data.words.length ? list : make('p', {}, 'All that was compared agrees.'));
}

/** The box that a finding is about: the "h at t=3" in its words, else the first to differ. */
function placeIn(data, text) {
  let [found, longest] = [data.first, 0];
  for (const [, t] of text.matchAll(/ at t=(\d+)/g)) {
    for (const one of data.series.all) {
      const tensor = one.timed ? data.series.tensor(one.number, Number(t)) : -1;
      const { name } = data.tensors.sort(one.tensors[0]);
      if (tensor < 0 || name.length <= longest || !text.includes(`${name} at t=${t}`)) continue;
      const before = text[text.indexOf(`${name} at t=${t}`) - 1] ?? ' ';
      // Of the end of a longer name nothing is said.
      if (!/[\p{L}\p{N}_.]/u.test(before)) [found, longest] = [tensor, name.length];
    }
  }
  return found;
}

// --- the timestep as a table -----------------------------------------------------------------------------
function makeTable(page) {
  const { data, state } = page;
  const panel = $('table');
  const [title, body] = [panel.querySelector('h2'), panel.querySelector('.body')];
  const columns = [
    [
      'name',
      (tensor) =>
        make(
          'button',
          { type: 'button', class: 'link', click: () => page.jump(tensor) },
          bdi(shortened(data.tensors.name(tensor), 60)),
        ),
    ],
    ['op', (tensor) => bdi(shortened(data.tensors.sort(tensor).op, 40))],
    ['shape', (tensor) => data.tensors.sort(tensor).shape],
  ];
  if (data.values.any) columns.push(['‖value‖', (tensor) => valueInWords(data, tensor, '\n')]);
  if (data.grads.any)
    columns.push([
      '‖gradient‖',
      (tensor) => (data.grads.norm(tensor) === null ? 'none' : gradientInWords(data, tensor, '\n')),
    ]);
  if (data.errors.size)
    columns.push(['error', (tensor) => (data.errors.has(tensor) ? say(data.errors.get(tensor)) : '–')]);
  const plain = new Set(['name', 'op', 'shape']);

  function row(tensor) {
    return make(
      'tr',
      { ...(tensor === data.first && { class: 'bad' }) },
      ...columns.map(([what, cell], i) =>
        make(
          i ? 'td' : 'th',
          { ...(!i && { scope: 'row' }), ...(!plain.has(what) && { class: 'number' }) },
          cell(tensor),
        ),
      ),
    );
  }

  function show() {
    title.textContent = data.frames.steps ? `Timestep ${state.t}` : 'All boxes';
    if (!panel.open) return;
    const level = page.level();
    const tensors = level
      .here(state.t)
      .slice(0, MOST_ROWS)
      .map((box) => level.tensorAt(box, state.t));
    const own = tensors.filter((tensor) => data.tensors.time(tensor) !== null);
    const shared = tensors.filter((tensor) => data.tensors.time(tensor) === null);
    const heading = (text) =>
      make('tr', {}, make('th', { scope: 'rowgroup', colspan: columns.length, class: 'group' }, text));
    const group = (text, some) =>
      some.length ? [make('tbody', {}, ...(text ? [heading(text)] : []), ...some.map(row))] : [];
    body.replaceChildren(
      make(
        'table',
        { class: 'numbers wide' },
        make('caption', { class: 'hidden' }, title.textContent),
        make(
          'thead',
          {},
          make(
            'tr',
            {},
            ...columns.map(([what]) =>
              make('th', { scope: 'col', ...(!plain.has(what) && { class: 'number' }) }, what),
            ),
          ),
        ),
        ...group('', own),
        ...group(own.length ? 'outside of the timesteps' : '', shared),
      ),
      ...studies(),
    );
  }

  function studies() {
    const rows = data.strips.map((strip) =>
      make(
        'tr',
        {},
        make('th', { scope: 'row' }, bdi(strip.title)),
        make('td', { class: 'number' }, readingOf(strip, data.frames.index(state.t))),
      ),
    );
    if (!rows.length) return [];
    return [
      make(
        'table',
        { class: 'numbers wide' },
        make('caption', {}, `Under the columns, at t=${state.t}`),
        make('tbody', {}, ...rows),
      ),
    ];
  }

  panel.addEventListener('toggle', show);
  page.add((changed) => {
    if (['t', 'level', 'start'].some((what) => changed.has(what))) show();
  });
}

// --- the legend ------------------------------------------------------------------------------------------
function makeLegend(page) {
  page.add((changed) => {
    // Of the rolled picture it says which timestep the numbers are of.
    const whose = changed.has('t') && page.level().rolled;
    if (whose || ['view', 'level', 'theme', 'start'].some((what) => changed.has(what)))
      $('legend').replaceChildren(...legendItems(page));
  });
}

/** What the colours mean in the view and at the level that are shown. */
function legendItems(page) {
  const scale = page.scales[page.state.view];
  const notes = [...whoseNumbers(page), ...otherScales(page), ...page.data.notes];
  const quiet = notes.map((note) => make('span', { class: 'item quiet' }, bdi(note)));
  return [...(scale ? scaleItems(page, scale) : kindItems(page)), ...quiet];
}

/** What the colours mean in strips that have another scale than the legend's. */
function otherScales({ data, state }) {
  const there = new Set(data.strips.map(({ kind }) => kind));
  const words = [
    ...(there.has('factor') ? ['what each step multiplies by: 1 is in the middle of the colours'] : []),
    ...(there.has('share') ? ['shares: the colours go from 0% to 100%'] : []),
  ];
  return state.view === 'forward' || !words.length ? [] : [`Strips with scales of their own: ${words.join('; ')}.`];
}

/** Of one timestep that is drawn for all, which one the colours are of. */
function whoseNumbers({ data, state, level: shown }) {
  const level = shown();
  if (!level.rolled || state.view === 'forward' || data.frames.steps < 2) return [];
  if (state.view === 'compare') return ['Boxes have the worst error of all timesteps.'];
  const times = new Set(level.boxes.tensor.map((_, box) => data.tensors.time(level.tensorAt(box, state.t))));
  const steps = [...times].filter((t) => t !== null).map((t) => `t=${t}`);
  const all = data.strips.length ? '; the strips have all' : '';
  return [`Boxes and lines have the numbers of ${steps.join(' and ')}${all}.`];
}

function kindItems(page) {
  const { kinds, wireKinds } = page.level();
  const items = Object.keys(page.data.pens.kinds)
    .filter((kind) => kinds.has(kind))
    .map((kind) =>
      make(
        'span',
        { class: 'item' },
        make('i', { class: `swatch kind ${kind}` }),
        kind === 'block' ? 'timesteps left out' : kind,
      ),
    );
  if (wireKinds.has('carried') || wireKinds.has('loop'))
    items.push(make('span', { class: 'item' }, make('i', { class: 'line carried' }), 'carried on in time'));
  return items;
}

function scaleItems(page, scale) {
  const { data, state, palette } = page;
  const bar = make('canvas', { class: 'bar', 'aria-hidden': 'true' });
  const pen = penOf(bar, 180, 12);
  for (let i = 0; i < STEPS; i += 1) {
    pen.fillStyle = scale.color(i);
    pen.fillRect((i * 180) / STEPS, 0, 180 / STEPS + 1, 12);
  }
  const ticks = make('span', { class: 'ticks' });
  for (const [place, text] of scale.ticks) {
    const tick = make('span', {}, text);
    // Those at the ends stay within the bar.
    tick.style.left = `${place * 100}%`;
    tick.style.transform = `translateX(${-place * 100}%)`;
    ticks.append(tick);
  }
  const what = state.view === 'compare' ? 'relative error of a gradient' : 'norm of the gradient';
  const look = makeLook(data, page.level(), state, palette, page.scales);
  const odd = Object.entries(OUTSIDE)
    .filter(([, kind]) => scale.seen.includes(kind))
    .map(([code, kind]) => {
      const words =
        kind === 'unknown' && state.view === 'compare' ? 'not compared' : data.special[kind].words;
      return make('span', { class: 'item' }, sampleOf(look.coded(Number(code), scale)), words);
    });
  const cut = scale.cut ? [make('span', { class: 'item' }, `the darkest for 1e${scale.low} and less`)] : [];
  return [
    make('span', { class: 'item scale' }, what, make('span', { class: 'bars' }, bar, ticks)),
    ...cut,
    ...odd,
  ];
}

function sampleOf({ fill, line, width, dash, hatch }) {
  const sample = make('canvas', { class: 'swatch', 'aria-hidden': 'true' });
  const surface = canvasSurface(penOf(sample, 36, 12));
  surface.rect(1.5, 1.5, 33, 9, { fill, stroke: line, width: Math.min(3, width), dash });
  if (hatch) surface.lines(hatching(1.5, 1.5, 33, 9, 6), { stroke: hatch });
  return sample;
}

// --- what is said ----------------------------------------------------------------------------------------
function makeSpeaker(page) {
  const { data, state } = page;
  const said = $('said');
  let waiting = 0;

  function words() {
    const parts = [];
    if (data.frames.steps) parts.push(`Timestep ${state.t} of ${data.frames.from} to ${data.frames.to}`);
    const tensor = page.tensorOf(state.focus ?? state.pin);
    if (tensor >= 0) parts.push(inWords(page, tensor));
    if (state.now !== null)
      parts.push(state.direction > 0 ? 'playing forward' : 'playing the gradient backward');
    return parts.join('. ');
  }

  page.add((changed) => {
    const spoken = {
      view: `${state.view} view`,
      level: { op: 'operations', cell: 'cells', rolled: 'rolled' }[state.level],
    };
    const first = Object.keys(spoken)
      .filter((what) => changed.has(what))
      .map((what) => spoken[what]);
    if (!first.length && !['t', 'pin', 'playing'].some((what) => changed.has(what))) return;
    if (changed.has('pin') && !changed.has('t')) first.push(state.pin === null ? 'unpinned' : 'pinned');
    // Who scrubs quickly hears where they have stopped and not every number on the way.
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      said.textContent = [...first, words()].join('. ');
    }, QUIET_FOR);
  });
}
