// Which part of a picture is in sight. Only arithmetic: nothing here knows of the document.

// Down to this scale a picture keeps its proportions; from further away time alone is pressed together, so
// that five hundred timesteps are a band that one can look at and not a hairline.
const STILL_READABLE = 0.6;
// Of a picture that fits the height of the stage only at a smaller scale, the beginning says little.
const TOO_HIGH = 0.35;
const CLOSEST = 4;
const MARGIN = 24;

/** A camera over a picture: (x, y) is the place in it that stands at the upper left corner of the stage. */
function makeCamera(level) {
  const camera = { x: 0, y: 0, sx: 1, sy: 1, width: 1, height: 1, top: 0, placed: false };
  const stretches = level.columns.length > 1;

  const room = () => ({
    width: Math.max(1, camera.width - 2 * MARGIN),
    height: Math.max(1, camera.height - camera.top - 2 * MARGIN),
  });
  const fitting = () => Math.min(room().width / level.width, room().height / level.height, 1.5);
  const farthest = () => Math.min(fitting(), STILL_READABLE) * 0.9;
  const across = (zoom) => {
    if (!stretches) return zoom;
    return Math.max(zoom, Math.min(room().height / level.height, STILL_READABLE));
  };

  function setZoom(zoom) {
    camera.sx = Math.max(farthest(), Math.min(CLOSEST, zoom));
    camera.sy = across(camera.sx);
  }

  function clamp() {
    camera.x = clamped(camera.x, level.width, camera.sx, 0, camera.width);
    camera.y = clamped(camera.y, level.height, camera.sy, camera.top, camera.height);
  }

  return Object.assign(camera, {
    level,
    toX: (x) => (x - camera.x) * camera.sx,
    toY: (y) => (y - camera.y) * camera.sy + camera.top,
    fromX: (px) => px / camera.sx + camera.x,
    fromY: (py) => (py - camera.top) / camera.sy + camera.y,
    unit: () => Math.min(camera.sx, camera.sy),

    resize(width, height, top) {
      const [cx, cy] = [camera.fromX(camera.width / 2), camera.fromY(camera.height / 2)];
      Object.assign(camera, { width, height, top });
      setZoom(camera.sx);
      if (camera.placed) camera.centre(cx, cy);
    },
    panBy(dx, dy) {
      camera.x -= dx / camera.sx;
      camera.y -= dy / camera.sy;
      clamp();
    },
    /** Zoom by a factor; what stands at (px, py) stays there. */
    zoomBy(factor, px, py) {
      const [x, y] = [camera.fromX(px), camera.fromY(py)];
      setZoom(camera.sx * factor);
      camera.x = x - px / camera.sx;
      camera.y = y - (py - camera.top) / camera.sy;
      clamp();
    },
    centre(x, y) {
      camera.x = x - camera.width / 2 / camera.sx;
      camera.y = y - (camera.height - camera.top) / 2 / camera.sy;
      clamp();
    },
    /** All of the picture. */
    fit() {
      setZoom(fitting());
      camera.placed = true;
      camera.centre(level.width / 2, level.height / 2);
    },
    /** All of it if its boxes can be read then, or if it is too high to be read anyway; else the beginning. */
    begin() {
      camera.fit();
      const high = room().height / level.height;
      if (stretches && camera.sx < STILL_READABLE && high > TOO_HIGH) {
        setZoom(Math.max(LEAST_LABEL_SCALE, Math.min(1, high)));
        camera.centre(0, level.height / 2);
      }
    },
    /** The least movement that brings an area wholly into sight. */
    reveal(x, y, width, height) {
      const shift = (low, high, from, to) => (low < from ? low - from : high > to ? high - to : 0);
      const [left, right] = [camera.toX(x), camera.toX(x + width)];
      const [upper, lower] = [camera.toY(y), camera.toY(y + height)];
      const dx = shift(left, right, MARGIN, camera.width - MARGIN);
      const dy = shift(upper, lower, camera.top + MARGIN / 2, camera.height - MARGIN / 2);
      if (!dx && !dy) return false;
      camera.panBy(-dx, -dy);
      return true;
    },
  });
}

/** A picture smaller than the stage stands in its middle, and a larger one does not leave it. */
function clamped(place, size, scale, from, to) {
  const room = (to - from) / scale;
  const margin = MARGIN / scale;
  if (size + 2 * margin <= room) return (size - room) / 2;
  return Math.max(-margin, Math.min(size + margin - room, place));
}
