// The state of the page. Whoever changes it says so to `set`; once a frame every part hears what has changed.

function makePage(data, first) {
  const state = {
    level: first,
    view: 'forward',
    t: data.frames.from,
    // A series: the box that has the focus, and the one that is followed through time.
    focus: null,
    pin: null,
    // What the pointer is over, by its number in the level.
    hover: null,
    wire: null,
    // A pass that is played: the tick that it has reached, which way, and whether it goes on by itself.
    now: null,
    direction: 1,
    playing: false,
  };
  const parts = [];
  const cameras = new Map([...data.levels].map(([name, level]) => [name, makeCamera(level)]));
  let changed = new Set();
  let waiting = false;

  const page = {
    data,
    state,
    palette: null,
    scales: {},
    pointer: [0, 0],
    level: () => data.levels.get(state.level),
    camera: () => cameras.get(state.level),
    cameras: () => cameras.values(),

    set(changes) {
      for (const [name, value] of Object.entries(changes)) {
        if (!Object.is(state[name], value)) {
          state[name] = value;
          changed.add(name);
        }
      }
      if (changed.size) page.soon();
    },
    /** Something outside of the state has changed: "camera", "theme", "size". */
    touch(what) {
      changed.add(what);
      page.soon();
    },
    soon() {
      if (!waiting) {
        waiting = true;
        requestAnimationFrame(page.update);
      }
    },
    update() {
      waiting = false;
      const now = changed;
      changed = new Set();
      for (const part of parts) part(now);
    },
    /** A part is a function that is told what has changed. */
    add(part) {
      parts.push(part);
    },

    // --- what several parts want to know ---
    /** The tensor that is looked at: under the pointer, else with the focus, else pinned; -1 for none. */
    inspected() {
      const level = page.level();
      if (state.hover !== null) return level.tensorAt(state.hover, state.t);
      return page.tensorOf(state.focus ?? state.pin);
    },
    /** The tensor of a series at this timestep, or the nearest there is. */
    tensorOf(number) {
      if (number === null) return -1;
      const there = data.series.tensor(number, state.t);
      if (there >= 0) return there;
      const time = (tensor) => Math.abs(data.tensors.time(tensor) - state.t);
      return data.series.all[number].tensors.reduce((best, one) => (time(one) < time(best) ? one : best));
    },

    // --- what several parts do ---
    /** Change the timestep; a pass that is played goes on from there. */
    lookAt(t) {
      page.set({ t, ...(state.now !== null && { now: page.tickOf(t) }) });
    },
    goTo(t) {
      if (data.frames.index(t) >= 0 && t !== state.t) page.lookAt(t);
      page.showTime();
    },
    move(by) {
      page.goTo(data.frames.move(state.t, by));
    },
    /** Where a pass is that has just reached a timestep. */
    tickOf(t) {
      const level = page.level();
      if (level.rolled)
        return data.frames.index(t) * level.ticks + (state.direction > 0 ? 0 : level.ticks - 1);
      const tick = state.direction > 0 ? level.timeOfTick.indexOf(t) : level.timeOfTick.lastIndexOf(t);
      return tick < 0 ? state.now : tick;
    },
    /** Bring the timestep into sight. */
    showTime() {
      const [level, camera] = [page.level(), page.camera()];
      const column = level.column(state.t);
      if (!column || level.rolled || !camera.placed) return;
      const y = camera.fromY(camera.top + MARGIN);
      if (camera.reveal(column.from, y, column.to - column.from, 0)) page.touch('camera');
    },
    showBox(box) {
      const { x, y, width, height } = page.level().boxes;
      if (page.camera().reveal(x[box], y[box], width[box], height[box])) page.touch('camera');
    },
    /** Go to a tensor, wherever it is, and pin it. */
    jump(tensor) {
      const number = data.series.of[tensor];
      const t = data.tensors.time(tensor) ?? state.t;
      if (page.level().find(number, t) === undefined) {
        const other = [...data.levels.values()].find((level) => level.find(number, t) !== undefined);
        if (other) page.set({ level: other.name });
      }
      page.set({ t, focus: number, pin: number, hover: null });
      const box = page.level().find(number, t);
      if (box !== undefined) page.centreOn(box);
      page.touch('jump');
    },
    centreOn(box) {
      const { x, y, width, height } = page.level().boxes;
      const camera = page.camera();
      if (!camera.placed) camera.begin();
      if (camera.unit() < STILL_READABLE)
        camera.zoomBy(STILL_READABLE / camera.sx, camera.width / 2, camera.height / 2);
      camera.centre(x[box] + width[box] / 2, y[box] + height[box] / 2);
      page.touch('camera');
    },
    pinOn(box) {
      const number = data.series.of[page.level().boxes.tensor[box]];
      const t = page.level().rolled ? state.t : (page.level().time(box) ?? state.t);
      page.set({ t, focus: number, pin: state.pin === number && state.t === t ? null : number });
    },
  };
  return page;
}
