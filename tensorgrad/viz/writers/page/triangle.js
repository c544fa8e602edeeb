// The norms of dL_i/dh_j: how much each timestep's loss depends on each earlier state.

const SIDE = 300;

function makeTriangle(page) {
  const { data, state } = page;
  const panel = $('triangle');
  const { triangle } = data;
  panel.hidden = !triangle;
  if (!triangle) return;
  const { rows, columns, norms } = triangle;
  const finite = norms.filter((x) => x > 0 && x < Infinity);
  const scale = page.scales.triangle;
  const canvas = make('canvas', { tabindex: '0', role: 'img', 'aria-describedby': 'triangle-reading' });
  const range = finite.length ? `, from ${say(Math.min(...finite))} to ${say(Math.max(...finite))}` : '';
  canvas.setAttribute(
    'aria-label',
    `${triangle.title}: ${rows.length} × ${columns.length} timesteps${range}. Arrow keys move through it.`,
  );
  const reading = make('p', { id: 'triangle-reading', class: 'words', 'aria-live': 'polite' });
  panel
    .querySelector('.body')
    .append(
      make('p', { class: 'quiet' }, bdi(triangle.title)),
      make('div', { class: 'axes' }, make('span', {}, '↓ i, the loss'), make('span', {}, 'j, the state →')),
      canvas,
      reading,
    );
  const at = { row: rows.length - 1, column: 0 };
  const value = ({ row, column }) => norms[row * columns.length + column];

  function paint() {
    const [wide, tall] = [SIDE / columns.length, SIDE / rows.length];
    const pen = penOf(canvas, SIDE, SIDE);
    norms.forEach((norm, k) => {
      const [row, column] = [Math.floor(k / columns.length), k % columns.length];
      // Nothing flows to what comes later: that half stays empty.
      if (norm === null) return;
      const code = scale.code(norm);
      const [x, y] = [Math.round(column * wide), Math.round(row * tall)];
      const [right, lower] = [Math.round((column + 1) * wide), Math.round((row + 1) * tall)];
      paintCell(pen, scale, code, x, y, right - x, lower - y, page.palette);
    });
    const now = nearest(columns, state.t);
    pen.strokeStyle = page.palette.ink;
    pen.lineWidth = 1.5;
    pen.strokeRect(now * wide, 0.75, Math.max(2, wide), SIDE - 1.5);
    pen.strokeRect(at.column * wide, at.row * tall, Math.max(3, wide), Math.max(3, tall));
  }

  function read() {
    const norm = value(at);
    const what = norm === null ? 'nothing flows' : say(norm);
    reading.textContent = `dL_${rows[at.row]}/dh_${columns[at.column]}: ${what}`;
    paint();
  }

  const under = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const place = (part, n) => Math.max(0, Math.min(n - 1, Math.floor(part * n)));
    at.column = place((event.clientX - left) / width, columns.length);
    at.row = place((event.clientY - top) / height, rows.length);
    read();
  };
  canvas.addEventListener('pointermove', under);
  onDrag(canvas, (event) => {
    under(event);
    page.goTo(columns[at.column]);
  });
  canvas.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === 'Enter') page.goTo(columns[at.column]);
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    at.row = Math.max(0, Math.min(rows.length - 1, at.row + step[0]));
    at.column = Math.max(0, Math.min(columns.length - 1, at.column + step[1]));
    read();
  });
  page.add((changed) => {
    if (['t', 'theme', 'start'].some((what) => changed.has(what))) read();
  });
  panel.addEventListener('toggle', read);
}

function nearest(numbers, x) {
  return numbers.reduce((best, n, i) => (Math.abs(n - x) < Math.abs(numbers[best] - x) ? i : best), 0);
}
