// A level on paper: as much of it as is in sight, in as much detail as can be seen.

const LEAST_LABEL_SCALE = 0.5;
const LEAST_NAMED_BAND = 8;
const LEAST_LETTERS = 8;
const LEAST_BOX_WIDTH = 9;
const LEAST_COLUMN_WIDTH = 40;
const RULER = 24;

/** blocks, boxes or labels: what can be made out at this distance. */
function detailOf(level, camera) {
  if (camera.unit() >= LEAST_LABEL_SCALE) return 'labels';
  const wide = level.typical * camera.sx >= LEAST_BOX_WIDTH || level.pitch * camera.sx >= LEAST_COLUMN_WIDTH;
  return wide ? 'boxes' : 'blocks';
}

function paintLevel(surface, level, camera, look, styles) {
  const detail = detailOf(level, camera);
  const [low, high] = [camera.fromX(-20), camera.fromX(camera.width + 20)];
  const paintTitles = paintFrames(surface, level, camera, look, detail, styles);
  const wires = level.wiresWithin(low, high);
  if (detail === 'blocks') {
    const rails = wires.filter((i) => ['rail', 'gather'].includes(level.wires.sort(i).kind));
    paintWires(surface, level, camera, look, rails, detail, styles);
    paintBands(surface, level, camera, look, low, high);
    paintColumn(surface, level, camera, look);
    paintBandNames(surface, level, camera, look);
  } else {
    paintWires(surface, level, camera, look, wires, detail, styles);
    for (const box of level.boxesWithin(low, high))
      paintBox(surface, level, camera, look, box, detail, styles);
  }
  paintTitles();
  if (look.first !== undefined) paintFirst(surface, level, camera, look.palette, look.first);
}

// --- frames ----------------------------------------------------------------------------------------------
function paintFrames(surface, level, camera, look, detail, styles) {
  const { palette } = look;
  const visible = level.outlinesWithin(camera.fromX(0), camera.fromX(camera.width));
  const shown = visible
    .map((i) => level.outlines[i])
    .filter(({ time }) => time === null || detail !== 'blocks');
  const isNow = ({ time, last }) =>
    look.marked && !level.rolled && time !== null && time <= look.t && look.t <= last;
  for (const outline of shown) {
    const now = isNow(outline);
    surface.rect(...areaOf(camera, outline), {
      fill: palette.frame,
      stroke: now ? palette.ink : palette.rim,
      width: now ? 2 : 1,
      radius: Math.min(8, 8 * camera.unit() + 2),
    });
  }
  return () =>
    shown.forEach((outline) => paintTitle(surface, camera, look, outline, isNow(outline), styles.title));
}

/** The title of a frame in the band that the layout keeps free for it, as long as that has room for letters. */
function paintTitle(surface, camera, { palette }, { title, time, ...outline }, now, style) {
  const [x, y, width, height] = areaOf(camera, outline);
  const unit = camera.unit();
  const size = Math.max(LEAST_LETTERS, style.size * unit);
  const [right, down] = [style.at[0] * unit, style.at[1] * unit + (size - style.size * unit) / 2];
  const fits = style.height * unit >= LEAST_LETTERS;
  // The times stand in the ruler too, but which layer is which is to be seen from afar.
  if (width < 3 * size || (!fits && (time !== null || height < 4 * size))) return;
  const base = fits ? y + down : y + size + 1;
  if (!fits) {
    const wide = Math.min(width, title.length * size * 0.6 + 2 * right);
    surface.rect(x + 1, y + 1, wide, size + 3, { fill: palette.frame, radius: 3, alpha: 0.85 });
  }
  const most = width - 2 * right;
  surface.text(x + right + 1, base, title, {
    size,
    bold: true,
    fill: now ? palette.ink : palette.soft,
    align: 'left',
    most,
  });
}

function areaOf(camera, { x, y, width, height }) {
  return [camera.toX(x), camera.toY(y), width * camera.sx, height * camera.sy];
}

/** Where a box is on the screen: from afar its part of a band. */
function boxArea(level, camera, box) {
  const { x, y, width, height } = level.boxes;
  if (detailOf(level, camera) !== 'blocks')
    return areaOf(camera, { x: x[box], y: y[box], width: width[box], height: height[box] });
  const { band, place } = level.bandOf[box];
  const [from, to] = [Math.round(camera.toX(band.starts[place])), Math.round(camera.toX(band.ends[place]))];
  return [
    from,
    Math.round(camera.toY(band.top)),
    to - from,
    Math.max(2, Math.round(band.height * camera.sy) - 1),
  ];
}

/** A mark around the box where a comparison found the first difference. */
function paintFirst(surface, level, camera, palette, box) {
  const [x, y, width, height] = boxArea(level, camera, box);
  if (x > camera.width || x + width < 0) return;
  surface.rect(x - 4, y - 4, Math.max(4, width) + 8, height + 8, {
    stroke: palette.wrong,
    width: 3,
    radius: 8,
  });
  const middle = Math.max(50, Math.min(camera.width - 50, x + width / 2));
  surface.rect(middle - 46, y - 25, 92, 18, { fill: palette.wrong, radius: 4 });
  surface.text(middle, y - 12, 'first to differ', { size: 12, bold: true, fill: palette.paper });
}

// --- wires -----------------------------------------------------------------------------------------------
/** Wires that look alike are drawn in one stroke: most of the time goes into changing pens. */
function paintWires(surface, level, camera, look, visible, detail, styles) {
  const pens = new Map();
  const heads = new Map();
  const labels = [];
  const [scale, thin] = [Math.min(1.6, Math.max(0.45, camera.unit())), detail !== 'labels'];
  for (const i of visible) {
    const { color, width, head, dash } = look.wire(i);
    const alpha = look.litWire(i) ? 1 : UNLIT;
    const wide = Math.max(thin ? 0.6 : 0.8, width * scale);
    const line = onScreen(camera, level.wires.points[i]);
    const key = `${color} ${wide} ${dash} ${alpha}`;
    if (!pens.has(key)) pens.set(key, { lines: [], style: { stroke: color, width: wide, dash, alpha } });
    pens.get(key).lines.push(line);
    const { arrow, label } = level.wires.sort(i);
    if (arrow && camera.unit() > 0.3) {
      const ends = `${color} ${alpha}`;
      if (!heads.has(ends)) heads.set(ends, { shapes: [], style: { fill: color, alpha } });
      heads.get(ends).shapes.push(arrowhead(line, look.backwards, head * scale));
    }
    const loop = level.wires.tail[i] >= 0 && level.wires.tail[i] === level.wires.head[i];
    if (label && detail !== 'blocks') labels.push([labelPlace(line, loop), label]);
  }
  for (const { lines, style } of pens.values()) surface.lines(lines, style);
  for (const { shapes, style } of heads.values()) surface.shapes(shapes, style);
  for (const [at, label] of labels) paintLabel(surface, camera, look.palette.soft, at, label, styles.label);
}

function onScreen(camera, points) {
  const line = new Array(points.length);
  for (let k = 0; k < points.length; k += 2) {
    line[k] = camera.toX(points[k]);
    line[k + 1] = camera.toY(points[k + 1]);
  }
  return line;
}

/** A triangle at the end of a line; of a gradient at its beginning, for it flows the other way. */
function arrowhead(line, backwards, size) {
  const n = line.length;
  const [x, y, fromX, fromY] = backwards
    ? line.slice(0, 4)
    : [line[n - 2], line[n - 1], line[n - 4], line[n - 3]];
  const length = Math.hypot(x - fromX, y - fromY) || 1;
  const [dx, dy] = [((x - fromX) / length) * size, ((y - fromY) / length) * size];
  return [x, y, x - dx - dy / 2, y - dy + dx / 2, x - dx + dy / 2, y - dy - dx / 2];
}

/** Where the layout keeps room for it: right of a stretch of its line if that is upright, else above. */
function paintLabel(surface, camera, fill, [x, y, upright], label, style) {
  const unit = camera.unit();
  const size = Math.max(LEAST_LETTERS, style.size * unit);
  if (upright) surface.text(x + 5 * unit, y + 0.36 * size, label, { size, fill, align: 'left' });
  else surface.text(x, y - 4 * unit, label, { size, fill });
}

/**
 * The middle of the longest stretch of a line, and whether that runs up or down; at a loop from a box to itself of
 * the upper one of the two at the box, for above it there are no other loops.
 */
function labelPlace(line, loop) {
  let [longest, at] = [-1, 2];
  if (loop) at = line[1] <= line.at(-1) ? 2 : line.length - 2;
  for (let k = 2; k < line.length && !loop; k += 2) {
    const length = Math.hypot(line[k] - line[k - 2], line[k + 1] - line[k - 1]);
    if (length > longest) [longest, at] = [length, k];
  }
  const [fromX, fromY, toX, toY] = line.slice(at - 2, at + 2);
  return [(fromX + toX) / 2, (fromY + toY) / 2, Math.abs(toY - fromY) > Math.abs(toX - fromX)];
}

// --- boxes -----------------------------------------------------------------------------------------------
function paintBox(surface, level, camera, look, box, detail, styles) {
  const area = boxArea(level, camera, box);
  const [x, y, width, height] = area;
  if (y > camera.height || y + height < 0 || x > camera.width || x + width < 0) return;
  const looks = look.box(box);
  const alpha = look.lit(box) ? 1 : UNLIT;
  const radius = Math.min(look.radius(box), area[3] / 4);
  // Under a box that has not been reached lie wires: it hides them all the same.
  if (alpha < 1) surface.rect(...area, { fill: look.palette.frame, radius });
  surface.rect(...area, {
    fill: looks.fill,
    stroke: looks.line,
    width: Math.max(0.7, looks.width * Math.min(1.4, camera.unit() + 0.3)),
    dash: looks.dash,
    radius,
    alpha,
  });
  if (looks.hatch) surface.lines(hatching(...area), { stroke: looks.hatch, width: 1, alpha: alpha * 0.6 });
  if (look.fresh(box)) {
    surface.rect(x - 3, y - 3, width + 6, height + 6, {
      stroke: look.palette.accent,
      width: 2.5,
      radius: radius + 3,
    });
  }
  if (detail === 'labels') paintText(surface, level, camera, looks, box, area, styles, alpha);
  else paintName(surface, level, looks, box, area, alpha);
}

function paintText(surface, level, camera, looks, box, area, styles, alpha) {
  const lines = level.boxes.lines[box];
  const unit = camera.unit();
  const [x, y, width, height] = area;
  const total = lines.reduce((sum, [style]) => sum + styles[style].height, 0) * unit;
  let top = y + (height - total) / 2;
  for (const [name, text] of lines) {
    const style = styles[name];
    const size = style.size * unit;
    const baseline = top + style.rise * unit;
    const fill = name === 'name' || name === 'op' ? looks.ink : looks.soft;
    surface.text(x + width / 2, baseline, text, { size, bold: style.bold, fill, most: width - 4, alpha });
    top += style.height * unit;
  }
}

/** From further away the first line alone, where it has room. */
function paintName(surface, level, looks, box, [x, y, width, height], alpha) {
  const [style, text] = level.boxes.lines[box][0] ?? ['', ''];
  const size = Math.min(11, height * 0.6);
  if (size < 7 || text.length * size * 0.58 > width - 2) return;
  surface.text(x + width / 2, y + height / 2 + size * 0.36, text, {
    size,
    bold: style === 'name',
    fill: looks.ink,
    alpha,
  });
}

/** Lines from lower left to upper right that stay within a rectangle. */
function hatching(x, y, width, height, gap = 8) {
  const lines = [];
  for (let at = gap; at < width + height; at += gap) {
    const [fromX, fromY] = at <= height ? [x, y + at] : [x + at - height, y + height];
    const [toX, toY] = at <= width ? [x + at, y] : [x + width, y + at - width];
    lines.push([fromX, fromY, toX, toY]);
  }
  return lines;
}

// --- from afar -------------------------------------------------------------------------------------------
/** Every band along time, of a colour for every timestep. */
function paintBands(surface, level, camera, look, low, high) {
  for (const { boxes, starts, ends } of level.bands) {
    let run = null;
    const put = () => {
      if (run)
        surface.rect(run.from, run.top, Math.max(1, run.to - run.from), run.tall, {
          fill: run.fill,
          alpha: run.alpha,
        });
    };
    for (let k = firstBeyond(ends, low); k < boxes.length && starts[k] <= high; k += 1) {
      const { band: fill, code } = look.box(boxes[k]);
      const alpha = (look.scale ? 1 : 0.6) * (look.lit(boxes[k]) ? 1 : UNLIT);
      const rank = code === undefined ? 0 : urgency(code);
      const [from, top, wide, tall] = boxArea(level, camera, boxes[k]);
      const to = from + wide;
      if (run && run.fill === fill && run.alpha === alpha && from - run.to < 2) run.to = Math.max(run.to, to);
      else if (run && from <= run.from) {
        // Of several timesteps on one point of the screen the most urgent is to be seen.
        if (rank > run.rank) Object.assign(run, { fill, alpha, rank });
        run.to = Math.max(run.to, to);
      } else {
        put();
        run = { from, to, top, tall, fill, alpha, rank };
      }
    }
    put();
  }
}

/** The first of some places in ascending order that lies beyond another. */
function firstBeyond(places, least) {
  let [from, to] = [0, places.length];
  while (from < to) {
    const half = (from + to) >> 1;
    if (places[half] < least) from = half + 1;
    else to = half;
  }
  return from;
}

/** What a band is, at its left end in sight. */
function paintBandNames(surface, level, camera, look) {
  for (const { boxes, from, to, top, height } of level.bands) {
    const tall = height * camera.sy;
    if (boxes.length < 3 || tall < LEAST_NAMED_BAND || camera.toX(to) < 40) continue;
    const name = shortened(look.name(boxes[0]), 24);
    const size = Math.min(11, tall * 0.8);
    const [left, middle] = [Math.max(4, camera.toX(from) + 3), camera.toY(top) + tall / 2];
    const wide = name.length * size * 0.6 + 8;
    surface.rect(left, middle - size * 0.65, wide, size * 1.3, {
      fill: look.palette.paper,
      radius: 3,
      alpha: 0.86,
    });
    surface.text(left + 4, middle + size * 0.36, name, {
      size,
      bold: true,
      fill: look.palette.ink,
      align: 'left',
      most: wide - 6,
    });
  }
}

/** From afar the timestep that is looked at is a mark across all bands. */
function paintColumn(surface, level, camera, look) {
  const column = level.column(look.t);
  if (!column) return;
  const [from, to] = [camera.toX(column.from), camera.toX(column.to)];
  const wide = Math.max(4, to - from);
  const style = { stroke: look.palette.ink, width: 2, radius: 2 };
  surface.rect((from + to - wide) / 2, RULER + 2, wide, camera.height - RULER - 4, style);
}
