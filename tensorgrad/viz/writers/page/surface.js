// Two kinds of paper with one set of pencils: a canvas for the screen, SVG for the printer.
//
// A line is a flat list x, y, x, y ... in pixels. A style has fill, stroke, width, dash and alpha.

const FONT = 'Helvetica, Arial, "Liberation Sans", sans-serif';
const BEND = 7;

/** Draw a line with rounded corners by the moveTo, lineTo and quadraticCurveTo of anything that has them. */
function trace(pen, line) {
  pen.moveTo(line[0], line[1]);
  const end = line.length - 2;
  for (let k = 2; k < end; k += 2) {
    const [x, y] = [line[k], line[k + 1]];
    const before = towards(x, y, line[k - 2], line[k - 1]);
    const after = towards(x, y, line[k + 2], line[k + 3]);
    pen.lineTo(before[0], before[1]);
    pen.quadraticCurveTo(x, y, after[0], after[1]);
  }
  pen.lineTo(line[end], line[end + 1]);
}

function towards(x, y, toX, toY) {
  const [dx, dy] = [toX - x, toY - y];
  const part = Math.min(0.5, BEND / (Math.hypot(dx, dy) || 1));
  return [x + dx * part, y + dy * part];
}

function canvasSurface(ctx) {
  function ready({ fill, stroke, width = 1, dash, alpha = 1 }) {
    ctx.globalAlpha = alpha;
    if (fill) ctx.fillStyle = fill;
    if (stroke) {
      ctx.strokeStyle = stroke;
      ctx.lineWidth = width;
      ctx.setLineDash(dash ?? []);
    }
  }
  return {
    rect(x, y, width, height, style) {
      ready(style);
      if (style.radius) {
        ctx.beginPath();
        ctx.roundRect(x, y, width, height, style.radius);
        if (style.fill) ctx.fill();
        if (style.stroke) ctx.stroke();
      } else {
        if (style.fill) ctx.fillRect(x, y, width, height);
        if (style.stroke) ctx.strokeRect(x, y, width, height);
      }
    },
    lines(lines, style) {
      ready(style);
      ctx.lineJoin = 'round';
      ctx.beginPath();
      for (const line of lines) trace(ctx, line);
      ctx.stroke();
    },
    shapes(shapes, style) {
      ready(style);
      ctx.beginPath();
      for (const shape of shapes) {
        ctx.moveTo(shape[0], shape[1]);
        for (let k = 2; k < shape.length; k += 2) ctx.lineTo(shape[k], shape[k + 1]);
        ctx.closePath();
      }
      ctx.fill();
    },
    text(x, y, text, { size, bold, fill, align = 'center', most, alpha = 1 }) {
      ctx.globalAlpha = alpha;
      ctx.fillStyle = fill;
      ctx.font = `${bold ? 'bold ' : ''}${size}px ${FONT}`;
      ctx.textAlign = align;
      ctx.direction = 'ltr';
      ctx.fillText(text, x, y, most);
    },
  };
}

const SVG = 'http://www.w3.org/2000/svg';

/** An element of SVG with attributes and, last, its children or its text. */
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function svgSurface(root) {
  const fixed = (x) => Math.round(x * 10) / 10;
  const style = ({ fill, stroke, width = 1, dash, alpha = 1 }) => ({
    fill: fill ?? 'none',
    ...(stroke && { stroke, 'stroke-width': width }),
    ...(stroke && dash && { 'stroke-dasharray': dash.join(' ') }),
    ...(alpha < 1 && { opacity: alpha }),
  });
  const add = (tag, attributes, ...children) => root.append(svg(tag, attributes, ...children));
  return {
    rect(x, y, width, height, how) {
      const place = { x: fixed(x), y: fixed(y), width: fixed(width), height: fixed(height) };
      add('rect', { ...place, rx: how.radius ?? 0, ...style(how) });
    },
    lines(lines, how) {
      const parts = [];
      const pen = {
        moveTo: (x, y) => parts.push(`M${fixed(x)} ${fixed(y)}`),
        lineTo: (x, y) => parts.push(`L${fixed(x)} ${fixed(y)}`),
        quadraticCurveTo: (a, b, x, y) => parts.push(`Q${fixed(a)} ${fixed(b)} ${fixed(x)} ${fixed(y)}`),
      };
      for (const line of lines) trace(pen, line);
      add('path', { d: parts.join(''), 'stroke-linejoin': 'round', ...style({ ...how, fill: undefined }) });
    },
    shapes(shapes, how) {
      const d = shapes.map((shape) => `M${shape.map(fixed).join(' ')}Z`).join('');
      add('path', { d, ...style(how) });
    },
    text(x, y, text, { size, bold, fill, align = 'center', alpha = 1 }) {
      const anchor = { left: 'start', center: 'middle', right: 'end' }[align];
      add(
        'text',
        {
          x: fixed(x),
          y: fixed(y),
          'font-family': FONT,
          'font-size': fixed(size),
          'text-anchor': anchor,
          ...(bold && { 'font-weight': 'bold' }),
          ...style({ fill, alpha }),
        },
        text,
      );
    },
  };
}
