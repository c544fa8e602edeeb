// Playing a pass: forward through time, and then the gradient back to where it comes from.

// A pass through all timesteps takes about so many seconds, but no timestep less or more than can be followed.
const SECONDS = 16;
const SLOWEST = 1.2;
const FASTEST = 60;
// Who asked for less motion sees a few still pictures one after the other.
const STILLS = 24;
const STILL_FOR = 700;

function makePlayer(page) {
  const { data, state } = page;
  const button = $('play');
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  // When the frame before was; null before the first one of a pass.
  let last = null;
  let exact = 0;

  const ticks = () => page.level().ticks * (page.level().rolled ? Math.max(1, data.frames.steps) : 1);

  function rate() {
    const steps = Math.max(1, data.frames.steps);
    const perSecond = Math.max(SLOWEST, Math.min(FASTEST, steps / SECONDS));
    return (ticks() / steps) * perSecond * Number($('speed').value);
  }

  function begin() {
    const direction = state.view === 'forward' ? 1 : -1;
    exact = direction > 0 ? 0 : ticks() - 1;
    page.set({ direction, now: exact });
  }

  function play() {
    if (state.now === null) begin();
    exact = state.now;
    last = null;
    page.set({ playing: true, hover: null });
    requestAnimationFrame(advance);
  }

  function pause() {
    page.set({ playing: false });
  }

  function stop() {
    page.set({ playing: false, now: null, direction: 1 });
  }

  function advance(time) {
    if (!state.playing) return;
    // From the first frame on, whose time may lie before that of the key.
    last ??= time;
    const passed = Math.max(0, time - last);
    if (calm.matches && passed < STILL_FOR) {
      requestAnimationFrame(advance);
      return;
    }
    last = time;
    const by = calm.matches ? Math.max(1, ticks() / STILLS) : Math.min(0.25, passed / 1000) * rate();
    exact += by * state.direction;
    if (exact < 0 || exact > ticks() - 1) turn();
    else to(Math.round(exact));
    if (state.playing) requestAnimationFrame(advance);
  }

  function to(tick) {
    if (tick === state.now) return;
    const level = page.level();
    const t = level.rolled ? data.frames.times[Math.floor(tick / level.ticks)] : level.timeOfTick[tick];
    page.set({ now: tick, ...(t !== null && t !== undefined && { t }) });
    page.showTime();
  }

  /** The end of a pass: after the forward one the gradient flows back, and then all is done. */
  function turn() {
    if (state.direction > 0 && data.grads.any) {
      exact = ticks() - 1;
      page.set({ view: 'backward', direction: -1, now: exact });
    } else {
      stop();
    }
  }

  const nothing = data.frames.steps ? '' : whyNoTime(data.frames);
  disable(button, nothing);
  button.addEventListener('click', () => (state.playing ? pause() : play()));
  page.add((changed) => {
    // A scrub while a pass is played goes on from there.
    if (changed.has('now') && state.now !== null && Math.abs(state.now - exact) > 1) exact = state.now;
    if (changed.has('level') && state.now !== null) stop();
    if (!['playing', 'now', 'direction'].some((what) => changed.has(what))) return;
    button.textContent = state.playing ? '❚❚' : '▶';
    button.setAttribute('aria-label', state.playing ? 'Pause' : 'Play');
    button.title = `${state.playing ? 'Pause' : 'Play'} (Space)`;
    const pass = state.now === null ? '' : state.direction > 0 ? 'forward' : 'backward';
    $('timeline').dataset.pass = pass;
    $('timeline').dataset.playing = String(state.playing);
  });
  return { toggle: () => !nothing && (state.playing ? pause() : play()), stop };
}
