const DATA = JSON.parse(document.getElementById('data').textContent), $ = id => document.getElementById(id);
const view = new MoleculeView($('viewer'), DATA.palette, '#f9fafc');
const whole = DATA.molecule, last = DATA.frames.length - 1;
let moment = 0, playing = true;

// The atoms of a moment, with the bonds between those that are in their places.
function molecule({placed, way}) {
  const number = placed + (way.length ? 1 : 0), pos = whole.pos.slice(0, number);
  if (way.length) pos[placed] = way[way.length - 1];
  const charges = {};
  for (const [i, charge] of Object.entries(whole.charges)) if (Number(i) < placed) charges[i] = charge;
  return {elem: whole.elem.slice(0, number), pos, bonds: whole.bonds.filter(([u, v]) => Math.max(u, v) < placed), charges};
}

function show(number) {
  moment = number;
  const frame = DATA.frames[number];
  view.show(molecule(frame), {keep: true});
  for (const [x, y, z] of frame.way.slice(0, -1)) view.viewer.addSphere({center: {x, y, z}, radius: 0.07, color: '#e07ac0'});
  view.viewer.render();
  $('moment').value = number;
  $('said').textContent = `${frame.placed} of ${whole.elem.length} atoms`;
}

function play(on) {
  playing = on;
  $('play').textContent = on ? 'pause' : 'play';
  if (on && moment === last) show(0);
}

$('moment').max = last;
$('moment').oninput = event => { play(false); show(Number(event.target.value)); };
$('play').onclick = () => play(!playing);
addEventListener('keydown', event => { if (event.key === ' ' && event.target === document.body) { event.preventDefault(); play(!playing); } });
view.show(whole);  // the view has room for all
show(0);
setInterval(() => { if (playing) moment < last ? show(moment + 1) : play(false); }, 1000 * DATA.seconds);
