// The canvas on which a level is drawn, and the mouse, the wheel and the fingers on it.

const STILL = 5;
const NEAR_WIRE = 5;
const MOST_LIT = 60;

function makeStage(page) {
  const { data, state } = page;
  const [stage, canvas] = [$('stage'), $('canvas')];

  function paint() {
    const [level, camera] = [page.level(), page.camera()];
    const pen = penOf(canvas, camera.width, camera.height);
    if (!pen) return;
    const surface = canvasSurface(pen);
    const look = makeLook(data, level, state, page.palette, page.scales);
    paintLevel(surface, level, camera, look, data.styles);
    paintMarks(surface, page, level, camera);
    if (level.columns.length && !level.rolled) paintRuler(surface, level, camera, look);
    Object.assign(stage.dataset, {
      level: state.level,
      view: state.view,
      detail: detailOf(level, camera),
      t: data.frames.steps ? state.t : '',
      zoom: camera.sx.toFixed(4),
      hover: state.hover === null ? '' : data.tensors.id(level.boxes.tensor[state.hover]),
    });
  }

  function resize() {
    const { width, height } = stage.getBoundingClientRect();
    for (const camera of page.cameras()) {
      camera.resize(width, height, camera.level.columns.length && !camera.level.rolled ? RULER : 0);
    }
    page.touch('size');
  }

  page.add((changed) => {
    if (changed.has('level') || changed.has('size')) {
      const camera = page.camera();
      if (!camera.placed && camera.width > 1) camera.begin();
      page.showTime();
    }
    paint();
  });

  new ResizeObserver(() => {
    resize();
    page.update();
  }).observe(stage);
  watchPointers(page, stage, canvas);
  resize();
}

// --- what lies over the picture --------------------------------------------------------------------------
function paintMarks(surface, page, level, camera) {
  const { state, palette } = page;
  const ring = (box, color, width, gap) => {
    const [x, y, w, h] = boxArea(level, camera, box);
    const style = { stroke: color, width, radius: 5 + gap };
    surface.rect(x - gap, y - gap, Math.max(3, w) + 2 * gap, h + 2 * gap, style);
  };
  const pinned = level.find(state.pin, state.t);
  if (pinned !== undefined) ring(pinned, palette.accent, 3, 3);
  if (state.hover !== null) {
    const near = [...level.wiresInto[state.hover], ...level.wiresFrom[state.hover]];
    for (const i of detailOf(level, camera) === 'blocks' ? [] : near.slice(0, MOST_LIT)) {
      surface.lines([onScreen(camera, level.wires.points[i])], {
        stroke: palette.accent,
        width: 5,
        alpha: 0.3,
      });
    }
    ring(state.hover, palette.ink, 1.5, 1.5);
  }
  if (state.wire !== null) {
    surface.lines([onScreen(camera, level.wires.points[state.wire])], {
      stroke: palette.accent,
      width: 6,
      alpha: 0.4,
    });
  }
}

function paintRuler(surface, level, camera, look) {
  const { palette, t: now } = look;
  surface.rect(0, 0, camera.width, RULER, { fill: palette.paper });
  surface.lines([[0, RULER, camera.width, RULER]], { stroke: palette.rim, width: 1 });
  const every = roundStep(62 / (level.pitch * camera.sx));
  const at = ({ from, to }) => camera.toX((from + to) / 2);
  const here = level.column(now);
  const hereX = here ? at(here) : -1000;
  for (const column of level.columns) {
    const x = at(column);
    const block = column.last > column.t;
    if ((column.t % every && !block) || x < -30 || x > camera.width + 30 || Math.abs(x - hereX) < 44)
      continue;
    surface.text(x, 16, block ? '…' : `t=${column.t}`, { size: 11, fill: palette.soft });
  }
  if (here) {
    surface.rect(hereX - 24, 3, 48, 18, { fill: palette.ink, radius: 4 });
    surface.text(hereX, 16, `t=${now}`, { size: 11, bold: true, fill: palette.paper });
  }
}

/** 1, 2 or 5 times a power of ten, and no less than asked for. */
function roundStep(least) {
  const power = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, least))));
  return [1, 2, 5, 10].find((n) => n * power >= least) * power;
}

// --- what is where ---------------------------------------------------------------------------------------
function boxAt(level, camera, px, py) {
  if (detailOf(level, camera) === 'blocks') return inBands(level, camera, px, py);
  const [x, y] = [camera.fromX(px), camera.fromY(py)];
  const { boxes } = level;
  let [best, least] = [null, 3];
  for (const i of level.boxesWithin(x - 3 / camera.sx, x + 3 / camera.sx)) {
    const across = Math.max(boxes.x[i] - x, x - boxes.x[i] - boxes.width[i], 0) * camera.sx;
    const along = Math.max(boxes.y[i] - y, y - boxes.y[i] - boxes.height[i], 0) * camera.sy;
    if (Math.max(across, along) < least) [best, least] = [i, Math.max(across, along)];
  }
  return best;
}

function inBands(level, camera, px, py) {
  const [x, y] = [camera.fromX(px), camera.fromY(py)];
  for (const { boxes, ends, from, to, top, height } of level.bands) {
    if (x >= from && x <= to && y >= top && y <= top + height) return boxes[firstBeyond(ends, x)];
  }
  return null;
}

function wireAt(level, camera, px, py) {
  if (detailOf(level, camera) === 'blocks') return null;
  let [best, least] = [null, NEAR_WIRE];
  for (const i of level.wiresWithin(camera.fromX(px - NEAR_WIRE), camera.fromX(px + NEAR_WIRE))) {
    const line = onScreen(camera, level.wires.points[i]);
    for (let k = 2; k < line.length; k += 2) {
      const distance = toSegment(px, py, line[k - 2], line[k - 1], line[k], line[k + 1]);
      if (distance < least) [best, least] = [i, distance];
    }
  }
  return best;
}

function toSegment(x, y, ax, ay, bx, by) {
  const [dx, dy] = [bx - ax, by - ay];
  const part = Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - ax - part * dx, y - ay - part * dy);
}

// --- the mouse, the wheel, fingers -----------------------------------------------------------------------
function watchPointers(page, stage, canvas) {
  const { state } = page;
  const down = new Map();
  let moved = 0;

  const place = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };

  function hover(event) {
    const [px, py] = place(event);
    const [level, camera] = [page.level(), page.camera()];
    const box = py < camera.top ? null : boxAt(level, camera, px, py);
    const wire = box === null && py >= camera.top ? wireAt(level, camera, px, py) : null;
    stage.classList.toggle('over', box !== null);
    page.set({ hover: box, wire });
    page.pointer = [px, py];
  }

  function click(event) {
    const [px, py] = place(event);
    const [level, camera] = [page.level(), page.camera()];
    const box = py < camera.top ? null : boxAt(level, camera, px, py);
    if (box !== null) {
      page.pinOn(box);
      return;
    }
    const t = level.rolled ? null : level.timeAt(camera.fromX(px));
    if (t !== null) page.goTo(t);
  }

  canvas.addEventListener('pointerdown', (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    if (!down.size) moved = 0;
    down.set(event.pointerId, place(event));
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!down.has(event.pointerId)) {
      if (event.pointerType === 'mouse') hover(event);
      return;
    }
    const before = [...down.values()];
    const was = down.get(event.pointerId);
    const is = place(event);
    down.set(event.pointerId, is);
    moved += Math.hypot(is[0] - was[0], is[1] - was[1]);
    const camera = page.camera();
    if (down.size === 1) {
      if (moved > STILL) {
        camera.panBy(is[0] - was[0], is[1] - was[1]);
        page.set({ hover: null, wire: null });
      }
    } else pinch(camera, before, [...down.values()]);
    page.touch('camera');
  });
  const up = (event) => {
    if (down.size === 1 && down.has(event.pointerId) && moved <= STILL && event.type === 'pointerup')
      click(event);
    down.delete(event.pointerId);
  };
  canvas.addEventListener('pointerup', up);
  canvas.addEventListener('pointercancel', up);
  canvas.addEventListener('pointerleave', () => page.set({ hover: null, wire: null }));

  canvas.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      const camera = page.camera();
      const unit = event.deltaMode ? 32 : 1;
      let [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
      if (event.ctrlKey || event.metaKey) {
        camera.zoomBy(Math.exp(-Math.max(-80, Math.min(80, dy)) * 0.008), ...place(event));
      } else {
        // A wheel that only turns up and down moves through time where there is nothing above or below.
        const wholeHeight = camera.level.height * camera.sy <= camera.height - camera.top;
        if (event.shiftKey || (wholeHeight && !dx)) [dx, dy] = [dx || dy, 0];
        camera.panBy(-dx, -dy);
      }
      page.touch('camera');
      if (state.hover !== null || state.wire !== null) hover(event);
    },
    { passive: false },
  );
}

function pinch(camera, [a, b], [c, d]) {
  const apart = (p, q) => Math.hypot(p[0] - q[0], p[1] - q[1]) || 1;
  const between = (p, q) => [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2];
  const [from, to] = [between(a, b), between(c, d)];
  camera.panBy(to[0] - from[0], to[1] - from[1]);
  camera.zoomBy(apart(c, d) / apart(a, b), ...to);
}
