// On paper: the whole picture in rows of timesteps, like lines of a text; of a very long one what is in sight.

const PAPER_WIDTH = 1040;
const PAPER_HEIGHT = 640;
const PRINTED_SCALE = 0.62;
const MOST_ROWS_ON_PAPER = 24;

function makePrinter(page, applyTheme) {
  const { data, state } = page;
  const paper = $('paper');

  function lay() {
    if (paper.childElementCount) return;
    applyTheme('light');
    const level = page.level();
    const rows = rowsOf(level, page.camera());
    const look = makeLook(data, level, { ...state, now: null, marked: false }, page.palette, page.scales);
    const about = data.frames.steps ? `, ${counted(data.frames.steps, 'timestep')}` : '';
    paper.append(
      make('p', {}, `${state.view} view${about}${rows.part ? '; the part of it that was in sight' : ''}`),
    );
    paper.append(make('div', { class: 'legend' }, ...legendItems(page)));
    if (state.view === 'compare')
      paper.append(make('ol', {}, ...data.words.map((text) => make('li', {}, bdi(text)))));
    for (const row of rows) paper.append(drawRow(level, row, look));
    paper.hidden = false;
  }

  function clear() {
    paper.replaceChildren();
    paper.hidden = true;
    applyTheme();
  }

  function drawRow(level, [from, to, scale], look) {
    const camera = makeCamera(level);
    const [width, height] = [(to - from) * scale, level.height * scale];
    Object.assign(camera, { x: from, y: 0, sx: scale, sy: scale, width, height });
    const root = svg('svg', { viewBox: `0 0 ${width.toFixed(1)} ${height.toFixed(1)}`, class: 'row' });
    root.style.width = `${(100 * Math.min(1, width / PAPER_WIDTH)).toFixed(2)}%`;
    paintLevel(svgSurface(root), level, camera, look, data.styles);
    return root;
  }

  window.addEventListener('beforeprint', lay);
  window.addEventListener('afterprint', clear);
  matchMedia('print').addEventListener('change', ({ matches }) => (matches ? lay() : clear()));
}

/** Pieces of a picture between two timesteps, each as wide as the paper at most, as [from, to, scale]. */
function rowsOf(level, camera) {
  const scale = Math.min(PRINTED_SCALE, PAPER_HEIGHT / level.height);
  const count = level.rolled ? 1 : Math.ceil((level.width * scale) / PAPER_WIDTH - 0.05);
  if (count > MOST_ROWS_ON_PAPER) {
    const [left, right] = [Math.max(0, camera.fromX(0)), Math.min(level.width, camera.fromX(camera.width))];
    return Object.assign([[left, right, Math.min(scale, PAPER_WIDTH / (right - left))]], { part: true });
  }
  const starts = level.columns.map(({ from }) => from - 6);
  const cuts = [0];
  for (let k = 1; k < count && starts.length; k += 1)
    cuts.push(starts[nearest(starts, (k * level.width) / count)]);
  const ends = [...new Set([...cuts, level.width])];
  const widest = ends.slice(1).reduce((most, end, k) => Math.max(most, end - ends[k]), 1);
  return ends.slice(1).map((end, k) => [ends[k], end, Math.min(scale, PAPER_WIDTH / widest)]);
}
