// Making parts of the document. Text goes in as text: nothing here can turn a label into markup.

const $ = (id) => document.getElementById(id);

/** An element with attributes (a function is a listener, false leaves one out) and children or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children);
  return element;
}

/** A label of the user's, which may run from right to left and be of any length. */
function bdi(text) {
  return make('bdi', { class: 'label' }, shortened(text, 2000));
}

/** A canvas as large as its place on the page, with a pen for it, or null where it has no size. */
function penOf(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (!w || !h) return null;
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

/** Why a control cannot be used; an empty text for one that can. */
function disable(control, why) {
  control.disabled = Boolean(why);
  const holder = control.closest('label') ?? control;
  if (why) holder.title = why;
  else holder.removeAttribute('title');
}

/** Follow a pointer that is held down on an element. */
function onDrag(element, follow) {
  element.addEventListener('pointerdown', (event) => {
    if (event.button) return;
    element.setPointerCapture(event.pointerId);
    follow(event);
  });
  element.addEventListener('pointermove', (event) => {
    if (element.hasPointerCapture(event.pointerId)) follow(event);
  });
}
