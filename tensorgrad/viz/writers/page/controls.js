// Buttons, choices, keys and the theme.

const ZOOM = 1.35;
const PAN = 120;
const THEMES = ['auto', 'light', 'dark'];
const THEME_WORDS = { auto: 'as the system has it', light: 'light', dark: 'dark' };

function makeControls(page, boxes, player, search) {
  const { data, state } = page;
  makeChoice('level', whyNoLevel(data), (level) => page.set({ level, hover: null, wire: null }));
  makeChoice('view', whyNoView(data), (view) => page.set({ view }));

  const zoom = (factor) => {
    const camera = page.camera();
    camera.zoomBy(factor, camera.width / 2, camera.height / 2);
    page.touch('camera');
  };
  const pan = (dx, dy) => {
    page.camera().panBy(dx, dy);
    page.touch('camera');
  };
  const fit = () => {
    page.camera().fit();
    page.touch('camera');
  };
  const help = () => $('keys').showModal();
  const buttons = {
    'zoom-in': () => zoom(ZOOM),
    'zoom-out': () => zoom(1 / ZOOM),
    fit,
    'pan-left': () => pan(PAN, 0),
    'pan-right': () => pan(-PAN, 0),
    'pan-up': () => pan(0, PAN),
    'pan-down': () => pan(0, -PAN),
    help,
    print: () => window.print(),
  };
  for (const [id, act] of Object.entries(buttons)) $(id).addEventListener('click', act);

  const look = (view) => !whyNoView(data)[view] && page.set({ view });
  const levels = ['op', 'cell', 'rolled'];
  const keys = {
    ArrowLeft: (event) => page.move(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => page.move(event.shiftKey ? 10 : 1),
    ArrowUp: () => boxes.step(-1),
    ArrowDown: () => boxes.step(1),
    Home: () => page.goTo(data.frames.from),
    End: () => page.goTo(data.frames.to),
    Enter: () => boxes.pin(),
    Escape: () => {
      player.stop();
      page.set({ pin: null });
    },
    ' ': () => player.toggle(),
    f: () => look('forward'),
    b: () => look(state.view === 'backward' ? 'forward' : 'backward'),
    c: () => look('compare'),
    '+': () => zoom(ZOOM),
    '=': () => zoom(ZOOM),
    '-': () => zoom(1 / ZOOM),
    0: fit,
    '/': () => search.focus(),
    '?': help,
  };
  levels.forEach((level, i) => {
    keys[i + 1] = () => !whyNoLevel(data)[level] && page.set({ level, hover: null, wire: null });
  });

  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || $('keys').open) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || takesKey(event.target, event.key)) return;
    event.preventDefault();
    act(event);
  });

  page.add((changed) => {
    for (const name of ['level', 'view']) {
      if (!changed.has(name) && !changed.has('start')) continue;
      for (const input of document.getElementsByName(name)) input.checked = input.value === state[name];
    }
  });
}

function whyNoLevel(data) {
  const why = {};
  for (const level of ['op', 'cell', 'rolled'])
    if (!data.levels.has(level)) why[level] = 'This page was made without this level';
  if (!data.frames.steps) {
    const { count, sort } = data.tensors;
    const checkpointed = Array.from({ length: count }, (_, i) => sort(i).op).includes('checkpoint');
    why.cell = checkpointed
      ? 'What is inside a checkpoint is not on record: unroll without checkpoint= to see timesteps'
      : 'Nothing in this graph was made in a timestep: see nn.unroll';
    why.rolled = why.cell;
  }
  return why;
}

function whyNoView(data) {
  const why = {};
  if (!data.grads.any) why.backward = 'Drawn without gradients: draw(..., backward=True)';
  if (!data.errors.size) why.compare = 'Drawn without a comparison: draw(..., compare=tg.bptt.compare(...))';
  return why;
}

function makeChoice(name, why, take) {
  for (const input of document.getElementsByName(name)) {
    disable(input, why[input.value] ?? '');
    input.addEventListener('change', () => take(input.value));
  }
}

/** Whether an element needs a key for itself. */
function takesKey(target, key) {
  if (target.matches('input[type=search]')) return true;
  // Beside the picture the arrows scroll what is longer than the screen.
  if (['ArrowUp', 'ArrowDown'].includes(key) && target.closest('#panels')) return true;
  if (target.matches('select')) return key.length === 1 || key.startsWith('Arrow');
  if (target.matches('input')) return key.startsWith('Arrow') || ['Home', 'End'].includes(key);
  return target.matches('button, summary') && ['Enter', ' '].includes(key);
}

// --- light and dark --------------------------------------------------------------------------------------
function makeTheme(page) {
  const button = $('theme');
  const dark = matchMedia('(prefers-color-scheme: dark)');
  let chosen = 'auto';

  function apply(forced) {
    const theme = forced ?? (chosen === 'auto' ? (dark.matches ? 'dark' : 'light') : chosen);
    document.documentElement.dataset.theme = theme;
    page.palette = readPalette(page.data.pens);
    button.setAttribute('aria-label', `Theme: ${THEME_WORDS[chosen]}`);
    button.title = `Theme: ${THEME_WORDS[chosen]}`;
    page.touch('theme');
  }

  button.addEventListener('click', () => {
    chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
    // From "as the system has it" the first click is to change something.
    if (chosen === (dark.matches ? 'dark' : 'light') && THEMES.indexOf(chosen) === 1) chosen = 'dark';
    apply();
  });
  dark.addEventListener('change', () => apply());
  apply();
  return apply;
}
