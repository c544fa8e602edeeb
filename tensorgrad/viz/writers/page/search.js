// Search by name, operation or id: a field with a list under it.

const MOST_RESULTS = 40;

function makeSearch(page) {
  const { data } = page;
  const [field, list] = [$('search'), $('results')];
  let found = [];
  let at = -1;

  /** Ids that begin with the words come first, then one line for each series whose name or operation has them. */
  function search(words) {
    const wanted = words.trim().toLowerCase();
    if (!wanted) return [];
    const byId = [];
    for (let tensor = 0; tensor < data.tensors.count && byId.length < MOST_RESULTS; tensor += 1) {
      const id = data.tensors.id(tensor).toLowerCase();
      if (id === wanted) byId.unshift(tensor);
      else if (/\d/.test(wanted) && id.startsWith(wanted)) byId.push(tensor);
    }
    const exact = [];
    const part = [];
    for (const one of data.series.all) {
      const { name, op, role, kind } = data.tensors.sort(one.tensors[0]);
      const texts = [name, op, role, kind].map((text) => text.toLowerCase());
      const tensor = page.tensorOf(one.number);
      if (texts.includes(wanted)) exact.push(tensor);
      else if (texts.some((text) => text.includes(wanted))) part.push(tensor);
    }
    return [...new Set([...byId, ...exact, ...part])].slice(0, MOST_RESULTS);
  }

  function show() {
    found = search(field.value);
    at = found.length ? 0 : -1;
    const empty = field.value.trim() && !found.length;
    list.replaceChildren(
      ...found.map((tensor, i) => {
        const { op, shape, kind } = data.tensors.sort(tensor);
        return make(
          'li',
          {
            role: 'option',
            id: `result-${i}`,
            'aria-selected': String(i === at),
            pointerdown: (event) => take(event, i),
          },
          make('strong', {}, bdi(titleOf(data, tensor))),
          make(
            'span',
            { class: 'quiet' },
            bdi(shortened([op || kind, shape].join(' '), 60)),
            ' ',
            make('code', {}, data.tensors.id(tensor)),
          ),
        );
      }),
      ...(empty
        ? [
            make(
              'li',
              { class: 'quiet', role: 'option', 'aria-disabled': 'true', 'aria-selected': 'false' },
              'Nothing has this name, operation or id.',
            ),
          ]
        : []),
    );
    open(Boolean(found.length || empty));
  }

  function open(whether) {
    list.hidden = !whether;
    field.setAttribute('aria-expanded', String(whether));
    if (whether && at >= 0) field.setAttribute('aria-activedescendant', `result-${at}`);
    else field.removeAttribute('aria-activedescendant');
  }

  function move(by) {
    if (!found.length) return;
    list.children[at].setAttribute('aria-selected', 'false');
    at = (at + by + found.length) % found.length;
    list.children[at].setAttribute('aria-selected', 'true');
    list.children[at].scrollIntoView({ block: 'nearest' });
    open(true);
  }

  function take(event, i) {
    event.preventDefault();
    open(false);
    page.jump(found[i]);
  }

  field.addEventListener('input', show);
  field.addEventListener('focus', () => field.value && show());
  field.addEventListener('blur', () => open(false));
  field.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown') move(1);
    else if (event.key === 'ArrowUp') move(-1);
    else if (event.key === 'Enter' && at >= 0 && !list.hidden) {
      take(event, at);
      field.blur();
    } else if (event.key === 'Escape') {
      open(false);
      if (!field.value) field.blur();
      field.value = '';
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return { focus: () => field.focus() };
}
