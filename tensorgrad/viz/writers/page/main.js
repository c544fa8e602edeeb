// Everything put together.

function startPage() {
  const raw = JSON.parse($('data').textContent);
  const data = readData(raw);
  const page = makePage(data, data.levels.has(raw.level) ? raw.level : data.levels.keys().next().value);
  for (const [kind, spec] of Object.entries(data.scales)) page.scales[kind] = makeScale(data, spec);
  // By the view, too: what its colours mean. The forward view has those of kinds and no scale.
  page.scales.backward = page.scales.gradient;
  page.scales.compare = page.scales.error;

  const applyTheme = makeTheme(page);
  makeStage(page);
  const boxes = makeBoxes(page);
  const player = makePlayer(page);
  makeStrips(page);
  makeTimeline(page);
  makeLegend(page);
  makeInspector(page);
  makeHint(page);
  makeChart(page);
  makeTriangle(page);
  makeTable(page);
  makeFindings(page);
  makeSpeaker(page);
  makePrinter(page, applyTheme);
  makeControls(page, boxes, player, makeSearch(page));
  page.touch('start');
  page.update();
  if (!whyNoView(data)[raw.view]) page.set({ view: raw.view });
  if (page.state.view === 'compare' && data.first !== null) showFirst(page);
  window.tensorgradPage = page;
}

/** Begin where a comparison first differs, at the level that was asked for if it shows the place. */
function showFirst(page) {
  const { data, state } = page;
  const level = page.level();
  const t = data.tensors.time(data.first) ?? state.t;
  page.jump(level.first === undefined ? data.first : level.tensorAt(level.first, t));
}

startPage();
