const DATA = JSON.parse(document.getElementById('data').textContent);
const STATUS_COLORS = {ok: '#2fa866', valence: '#e5382f', radical: '#e08a1e', disconnected: '#8a3fb0', clash: '#b3123f', implausible: '#c9a400',
  unfinished: '#6b7684', perception_failed: '#44618c', timeout: '#44618c', unknown_element: '#9aa3ad'};
const colorOf = status => STATUS_COLORS[status] || '#3a4048', $ = id => document.getElementById(id);
const make = (tag, fields = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...children);
  return element;
};
const nameOf = m => m.title || `molecule ${m.number}`;
const formula = m => {
  const out = document.createDocumentFragment();
  for (const part of (m.formula || '').match(/\d+|\D+/g) || []) out.append(/\d/.test(part) ? make('sub', {textContent: part}) : part);
  return out;
};
const statuses = Object.keys(DATA.statuses).filter(s => DATA.sets.some(set => set.failures[s]));
statuses.reverse();  // ok first
const wanted = new Set(statuses);
const view = new MoleculeView($('viewer'), DATA.palette, '#f9fafc');
let chosen = null, turn = [-0.17, 0.17, 0, 0.97];

// --- gallery
const cards = [], visible = new Set();
const watcher = new IntersectionObserver(entries => entries.forEach(entry => {
  entry.isIntersecting ? visible.add(entry.target) : visible.delete(entry.target);
  if (entry.isIntersecting) drawSmall(entry.target, entry.target.molecule, DATA.palette, turn);
}), {root: $('gallery'), rootMargin: '60px'});
DATA.sets.forEach((set, s) => {
  const column = make('div', {className: 'column'}), grid = make('div', {className: 'cards'});
  if (DATA.sets.length > 1) column.append(make('h3', {textContent: set.name, style: `color:${set.color}`}));
  for (const molecule of DATA.molecules.filter(m => m.set === s)) {
    const canvas = molecule.elem ? Object.assign(make('canvas'), {molecule}) : make('div', {className: 'none', textContent: 'no picture'});
    const dot = make('i', {className: 'dot', style: `background:${colorOf(molecule.status)}`});
    const card = make('button', {className: 'card', title: `${nameOf(molecule)}: ${molecule.reason}`, onclick: () => choose(molecule)},
      canvas, make('span', {}, dot, molecule.title || formula(molecule)));
    molecule.card = card; cards.push(card); grid.append(card);
    if (molecule.elem) watcher.observe(canvas);
  }
  column.append(grid); $('gallery').append(column);
});

// --- filter
const counts = Object.fromEntries(statuses.map(s => [s, DATA.sets.reduce((sum, set) => sum + (set.failures[s] || 0), 0)]));
for (const status of statuses) {
  const chip = make('button', {className: 'chip on', title: DATA.statuses[status], onclick() {
    wanted.has(status) ? wanted.delete(status) : wanted.add(status);
    chip.classList.toggle('on', wanted.has(status)); filter();
  }}, make('i', {className: 'dot', style: `background:${colorOf(status)}`}), status.replace('_', ' '), make('b', {textContent: counts[status].toLocaleString('en')}));
  chip.dataset.status = status; $('filters').append(chip);
}
const count = make('span', {className: 'count'}); $('filters').append(count);
const shown = () => DATA.molecules.filter(m => wanted.has(m.status));
function filter() {
  for (const m of DATA.molecules) m.card.style.display = wanted.has(m.status) ? '' : 'none';
  const total = DATA.sets.reduce((sum, set) => sum + set.total, 0);
  count.textContent = `${shown().length} shown of ${DATA.molecules.length} on this page, ${total.toLocaleString('en')} in all`;
  if (chosen && !wanted.has(chosen.status) && shown().length) choose(shown()[0]);
}

// --- the molecule in three dimensions
const options = keep => ({style: $('style').value, axes: $('axes').checked, labels: $('labels').checked, keep});
function choose(molecule) {
  if (chosen) chosen.card.classList.remove('chosen');
  chosen = molecule;
  molecule.card.classList.add('chosen');
  molecule.card.scrollIntoView({block: 'nearest'});
  view.show(molecule, options(false));
  follow();
  const rows = [['file', DATA.sets.length > 1 ? DATA.sets[molecule.set].name : ''], ['number', String(molecule.number)], ['SMILES', molecule.smiles || ''],
    ['bonds', molecule.elem ? (molecule.own_bonds ? 'as the file has them' : 'found from distances') : ''], ...Object.entries(molecule.properties || {})];
  const list = make('dl');
  for (const [name, value] of rows) if (value) list.append(make('dt', {textContent: name}), make('dd', {textContent: value}));
  const badge = make('span', {className: 'badge', textContent: molecule.status.replace('_', ' '), style: `background:${colorOf(molecule.status)}`});
  $('facts').replaceChildren(make('h3', {}, nameOf(molecule), ' ', make('small', {}, formula(molecule)), ' ', badge),
    make('div', {textContent: molecule.status === 'ok' ? '' : molecule.reason}), list);
}
function follow() {  // small pictures turn with the large one
  turn = view.viewer.getView().slice(4, 8);
  for (const canvas of visible) drawSmall(canvas, canvas.molecule, DATA.palette, turn);
}
let waiting = false;
view.viewer.setViewChangeCallback(() => {
  if (waiting) return;
  waiting = true; requestAnimationFrame(() => { waiting = false; follow(); });
});
for (const id of ['style', 'axes', 'labels']) $(id).onchange = () => view.show(chosen, options(true));
$('spin').onchange = () => view.viewer.spin($('spin').checked ? 'y' : false, 0.6);
const step = by => { const list = shown(), i = list.indexOf(chosen); if (list.length) choose(list[(i + by + list.length) % list.length]); };
$('previous').onclick = () => step(-1); $('next').onclick = () => step(1);
document.addEventListener('keydown', event => {
  if (['INPUT', 'SELECT'].includes(event.target.tagName)) return;
  if (event.key === 'ArrowRight') step(1);
  if (event.key === 'ArrowLeft') step(-1);
});

// --- failures
const order = Object.keys(DATA.statuses), failing = make('div', {className: 'failing'});
DATA.sets.forEach((set, s) => {
  const bar = make('div', {className: 'bar'});
  for (const status of statuses) if (set.failures[status]) {
    bar.append(make('div', {title: `${set.failures[status]} ${status}`, style: `width:${100 * set.failures[status] / set.total}%;background:${colorOf(status)}`}));
  }
  const table = make('table');
  const worst = DATA.molecules.filter(m => m.set === s && m.status !== 'ok').sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status)).slice(0, DATA.worst);
  for (const m of worst) table.append(make('tr', {onclick() { choose(m); $('viewer').scrollIntoView({block: 'center', behavior: 'smooth'}); }},
    make('td', {textContent: nameOf(m)}), make('td', {}, make('i', {className: 'dot', style: `background:${colorOf(m.status)}`}), m.status.replace('_', ' ')), make('td', {textContent: m.reason})));
  const failed = set.total - (set.failures.ok || 0);
  failing.append(make('div', {}, make('h3', {textContent: `${set.name}: ${failed ? `${failed.toLocaleString('en')} of ${set.total.toLocaleString('en')}` : 'none'}${failed > worst.length ? `, the worst ${worst.length}` : ''}`, style: `color:${set.color}`}), bar, table));
});
$('failures').append(failing);

filter();
if (DATA.molecules.length) choose(DATA.molecules.find(m => m.elem) || DATA.molecules[0]);
