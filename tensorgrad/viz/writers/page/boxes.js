// The boxes of the timestep as elements of the document, one over each drawn box: for the keyboard, for
// screen readers. There are as many as the timestep has, however long the sequence is.

const MOST_OPTIONS = 200;

function makeBoxes(page) {
  const { data, state } = page;
  const list = $('boxes');
  let shown = [];

  function here() {
    const all = page.level().here(state.t);
    if (all.length <= MOST_OPTIONS) return all;
    const at = Math.max(0, all.indexOf(page.level().find(state.focus, state.t)));
    const from = Math.max(0, Math.min(all.length - MOST_OPTIONS, at - MOST_OPTIONS / 2));
    return all.slice(from, from + MOST_OPTIONS);
  }

  function fill() {
    shown = here();
    while (list.children.length < shown.length) list.append(make('div', { role: 'option', class: 'box' }));
    while (list.children.length > shown.length) list.lastChild.remove();
    const focus = page.level().find(state.focus, state.t);
    const pinned = page.level().find(state.pin, state.t);
    const stop = shown.includes(focus) ? focus : shown[0];
    shown.forEach((box, i) => {
      const option = list.children[i];
      const tensor = page.level().tensorAt(box, state.t);
      option.tabIndex = box === stop ? 0 : -1;
      option.id = `box-${data.tensors.id(page.level().boxes.tensor[box])}`;
      option.dataset.kind = data.tensors.sort(tensor).kind;
      option.setAttribute('aria-selected', String(box === pinned));
      option.setAttribute('aria-label', inWords(page, tensor));
    });
    list.setAttribute('aria-label', data.frames.steps ? `Boxes of timestep ${state.t}` : 'Boxes');
  }

  function put() {
    const [level, camera] = [page.level(), page.camera()];
    shown.forEach((box, i) => {
      const [x, y, width, height] = boxArea(level, camera, box);
      const { style } = list.children[i];
      style.transform = `translate(${x}px, ${y}px)`;
      style.width = `${Math.max(6, width)}px`;
      style.height = `${Math.max(6, height)}px`;
    });
  }

  /** Move the focus to a box; `taken` is whether the document's focus goes there too. */
  function focusOn(box, taken = true) {
    page.set({ focus: data.series.of[page.level().boxes.tensor[box]], hover: null });
    page.showBox(box);
    if (!taken) return;
    fill();
    put();
    list.children[shown.indexOf(box)]?.focus({ preventScroll: true });
  }

  const boxOf = (option) => shown[[...list.children].indexOf(option)];
  list.addEventListener('click', (event) => page.pinOn(boxOf(event.target.closest('.box'))));
  list.addEventListener('focusin', (event) => {
    const box = boxOf(event.target);
    if (box !== undefined) focusOn(box, false);
  });
  // Moving the focus must not scroll what is placed by the camera.
  list.addEventListener('scroll', () => list.scrollTo(0, 0));

  page.add((changed) => {
    const focused = list.contains(document.activeElement);
    if (['level', 't', 'focus', 'pin', 'view', 'start'].some((what) => changed.has(what))) fill();
    put();
    const stop = list.querySelector('[tabindex="0"]');
    if (focused && stop !== document.activeElement) stop?.focus({ preventScroll: true });
  });

  return {
    /** Up (-1) or down (1) through the boxes of the timestep. */
    step(by) {
      const all = page.level().here(state.t);
      if (!all.length) return;
      const at = all.indexOf(page.level().find(state.focus, state.t));
      focusOn(all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, at + by))]);
    },
    pin() {
      const box = page.level().find(state.focus, state.t);
      if (box !== undefined) page.pinOn(box);
    },
  };
}

/** All that is known of a tensor, as a sentence. */
function inWords(page, tensor) {
  const { data } = page;
  const { kind, op, shape, dtype } = data.tensors.sort(tensor);
  const t = data.tensors.time(tensor);
  const parts = [shortened(data.tensors.name(tensor)), kind];
  if (op && op !== data.tensors.name(tensor)) parts.push(shortened(op));
  if (shape) parts.push(`shape ${shape} ${dtype}`);
  if (t !== null) parts.push(`timestep ${t}`);
  if (data.values.any) parts.push(`norm of value ${valueInWords(data, tensor)}`);
  if (data.grads.any) parts.push(`norm of gradient ${gradientInWords(data, tensor)}`);
  if (data.errors.size) parts.push(`error ${errorInWords(page, tensor)}`);
  const { first, boxOf } = page.level();
  if (tensor === data.first || (first !== undefined && boxOf(tensor) === first)) parts.push('first to differ');
  return parts.join(', ');
}

/** The error of a tensor; in the rolled picture with the worst one that its box stands for. */
function errorInWords(page, tensor) {
  const { errors } = page.data;
  const states = page.data.states.get(tensor) ?? [];
  const named = states.some((one) => errors.has(one.tensor))
    ? `: ${ofEach(page.data, tensor, (one) => errors.get(one) ?? null)}`
    : '';
  const own = errors.has(tensor) ? `${say(errors.get(tensor))}${named}` : 'not compared';
  const level = page.level();
  const worst = level.worst(level.boxOf(tensor));
  return worst && worst.t !== null ? `${own}; at most ${say(worst.error)}, at t=${worst.t}` : own;
}

function gradientInWords(data, tensor, between = ', ') {
  const norm = data.grads.norm(tensor);
  if (norm === null) return 'none: not backpropagated';
  return ofEach(data, tensor, data.grads.norm, between) ?? say(norm);
}

function valueInWords(data, tensor, between = ', ') {
  return ofEach(data, tensor, data.values.norm, between) ?? say(data.values.norm(tensor));
}

/** A number of each state of a cell that makes several, by name; null for what is no such cell. */
function ofEach({ states }, tensor, number, between = ', ') {
  const words = (x) => (x === null ? 'none' : say(x));
  const each = states.get(tensor)?.map(({ tensor: one, name }) => `${shortened(name, 40)} ${words(number(one))}`);
  return each?.join(between) ?? null;
}
